//! `whisper-host push`: publishes a component to an OCI registry.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use fetch::components::{Interfaces, push, read_component};
use manifest::Reference;
use runtime::Outline;

use crate::output::outln;
use crate::{progress, scheduler};

#[derive(Args)]
pub struct Push {
    /// The component.
    #[arg(value_name = "FILE.wasm")]
    pub file: PathBuf,

    /// Destination: `oci://registry.example/name:1.0.0`. Credentials are those of `docker login`; a registry on this machine
    /// needs no TLS.
    #[arg(value_name = "REFERENCE")]
    pub reference: String,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Publishes a file, and prints the reference pinned to its digest.
///
/// # Errors
/// When the file is not a component, or the registry refuses it.
pub fn run(options: &Push) -> anyhow::Result<ExitCode> {
    let reference: Reference = options
        .reference
        .parse()
        .map_err(|why: String| anyhow::anyhow!(why))?;
    let wasm = read_component(&options.file)?;
    let failed = || format!("cannot push {} to {reference}", options.file.display());
    let Outline {
        imports, exports, ..
    } = Outline::validated(&wasm).with_context(failed)?;
    let interfaces = Interfaces { exports, imports };
    let pushed = scheduler::start()?
        .block_on(push(&reference, wasm, interfaces, progress::bytes()))
        .with_context(failed)?;
    if options.json {
        outln!("{}", serde_json::to_string(&pushed)?);
    } else {
        outln!(
            "{}\n  pinned   {}\n  digest   {}",
            pushed.reference,
            pushed.pinned,
            pushed.digest
        );
    }
    Ok(ExitCode::SUCCESS)
}
