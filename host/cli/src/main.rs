//! `whisper-host`: serves applications of WebAssembly components that work with speech.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod admin;
mod commands;
mod fetching;
mod options;
mod output;
mod progress;
mod queue;
mod scheduler;
mod settings;
mod setup;
mod sharing;
mod store;
mod watch;

use std::process::ExitCode;

/// A request makes some hundred small allocations across threads: this allocator takes about half of the time that the system's
/// takes (bench/, `load`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match settings::parse() {
        Ok(cli) => cli,
        Err(error) => return failed(&error),
    };
    let result = cli.command.run();
    telemetry::log::flush();
    match result {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

/// Prints what failed and why, in one line.
fn failed(error: &anyhow::Error) -> ExitCode {
    output::print_error(format_args!("{error:#}"));
    ExitCode::FAILURE
}
