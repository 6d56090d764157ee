//! `whisper-host push`: publishes a component in an OCI registry.

use std::process::ExitCode;

use anyhow::Context as _;
use runtime::sources::{self, Reference};

use crate::args::Push;
use crate::say::say;
use crate::{progress, setup};

/// Publishes a file, and prints the reference that will always mean it.
///
/// # Errors
/// When the file is no component, or the registry does not take it.
pub fn run(options: &Push) -> anyhow::Result<ExitCode> {
    let reference: Reference = options
        .reference
        .parse()
        .map_err(|why: String| anyhow::anyhow!(why))?;
    let wasm = std::fs::read(&options.file)
        .with_context(|| format!("cannot read {}", options.file.display()))?;
    let pushed = setup::runtime()?
        .block_on(sources::push(&reference, wasm, progress::bytes()))
        .with_context(|| format!("cannot push {} to {reference}", options.file.display()))?;
    if options.json {
        say!("{}", serde_json::to_string(&pushed)?);
    } else {
        say!(
            "{}\n  pinned   {}\n  digest   {}",
            pushed.reference,
            pushed.pinned,
            pushed.digest
        );
    }
    Ok(ExitCode::SUCCESS)
}
