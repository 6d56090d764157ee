//! `whisper-host`: serves applications of WebAssembly components that work with speech.

mod args;
mod check;
mod log;
mod settings;
mod setup;
mod transcribe;
mod up;

use std::process::ExitCode;

use args::Command;

fn main() -> ExitCode {
    let args = match settings::parse() {
        Ok(args) => args,
        Err(error) => return failed(&error),
    };
    let result = match args.command {
        Command::Up(options) => up::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Transcribe(options) => transcribe::run(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

/// One line on standard error: what failed, and why.
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
