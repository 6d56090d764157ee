//! `whisper-host remove`: takes a deployed component out.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use runtime::admin::api::Removed;

use crate::admin::Remote;
use crate::say::say;
use crate::scheduler;

#[derive(Args)]
pub struct Remove {
    #[command(flatten)]
    remote: Remote,

    /// The component's id.
    id: String,
}

/// Takes a component out.
///
/// # Errors
/// What the host says, or that it cannot be reached.
pub fn run(options: &Remove) -> anyhow::Result<ExitCode> {
    let path = [options.id.as_str()];
    let asking = options
        .remote
        .call(Method::DELETE, &path, |request| request);
    let (json, Removed { id, .. }) = scheduler::start()?.block_on(asking)?;
    match options.remote.json {
        true => say!("{json}"),
        false => say!("{id}: removed"),
    }
    Ok(ExitCode::SUCCESS)
}
