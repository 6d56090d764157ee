//! The command line, with one file per command.

mod check;
mod deploy;
mod list;
mod logs;
mod models;
mod new;
mod push;
mod remove;
mod rollback;
mod schema;
mod show;
mod stats;
mod transcribe;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use up::Up;

/// Serve WebAssembly components that work with speech.
///
/// Settings are taken from flags, then the environment (WHISPER_HOST_*), then runtime-config.toml, then the defaults shown.
#[derive(Parser)]
#[command(name = "whisper-host", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve an application.
    Up(Box<Up>),
    /// Validate a manifest and all its components without serving, and print what each may use.
    Check(check::Check),
    /// Transcribe files without a server.
    Transcribe(transcribe::Transcribe),
    /// Deploy a component to a running host.
    Deploy(deploy::Deploy),
    /// List what a running host serves, with its metrics.
    List(list::List),
    /// Sum up the calls of a running host.
    Stats(stats::Stats),
    /// Show one component of a running host, with its revisions.
    Show(show::Show),
    /// Serve an earlier revision of a deployed component.
    Rollback(rollback::Rollback),
    /// Remove a deployed component.
    Remove(remove::Remove),
    /// Print what a component wrote to standard output and error.
    Logs(logs::Logs),
    /// Create a project for a handler.
    New(new::New),
    /// Publish a component to an OCI registry.
    Push(push::Push),
    /// List, fetch and remove models.
    Models(models::Models),
    /// Print the JSON schema of manifests, for editors.
    Schema,
    /// Compile the component on standard input. Used by the host itself.
    #[command(name = runtime::COMPILE_COMPONENT, hide = true)]
    CompileComponent {
        /// File of compiled functions.
        functions: PathBuf,
    },
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// When the command fails.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up(options) => up::run(options),
            Self::Check(options) => check::run(options),
            Self::Transcribe(options) => transcribe::run(options),
            Self::Deploy(options) => deploy::run(options),
            Self::List(options) => list::run(options),
            Self::Stats(options) => stats::run(options),
            Self::Show(options) => show::run(options),
            Self::Rollback(options) => rollback::run(options),
            Self::Remove(options) => remove::run(options),
            Self::Logs(options) => logs::run(options),
            Self::New(options) => new::run(options),
            Self::Push(options) => push::run(options),
            Self::Models(options) => models::run(options),
            Self::Schema => schema::run(),
            Self::CompileComponent { functions } => Ok(runtime::compile_component(functions)),
        }
    }
}
