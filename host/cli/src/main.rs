//! `whisper-host`: serves applications of WebAssembly components that work with speech.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod check;
mod log;
mod models;
mod new;
mod progress;
mod push;
mod remote;
mod say;
mod schema;
mod settings;
mod setup;
mod transcribe;
mod up;
mod watch;

use std::process::ExitCode;

use args::Command;

/// A request makes and frees some hundred small things, on whichever thread: this allocator takes about half of the time
/// for it that the system's takes (bench/, `load`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = match settings::parse() {
        Ok(args) => args,
        Err(error) => return failed(&error),
    };
    let result = match args.command {
        Command::Up(options) => up::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Transcribe(options) => transcribe::run(&options),
        Command::Deploy(options) => remote::deploy(&options),
        Command::List(options) => remote::list(&options),
        Command::Show(options) => remote::show(&options),
        Command::Rollback(options) => remote::rollback(&options),
        Command::Remove(options) => remote::remove(&options),
        Command::Logs(options) => remote::logs(&options),
        Command::New(options) => new::run(&options),
        Command::Push(options) => push::run(&options),
        Command::Models(options) => models::run(&options),
        Command::Schema => schema::run(),
        Command::CompileComponent { functions } => Ok(runtime::compile_component(&functions)),
    };
    log::flush();
    match result {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

/// One line on standard error: what failed, and why.
fn failed(error: &anyhow::Error) -> ExitCode {
    say::complain(format_args!("{error:#}"));
    ExitCode::FAILURE
}
