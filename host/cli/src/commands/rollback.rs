//! `whisper-host rollback`: serves an earlier revision.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use runtime::admin::api::Serving;

use crate::admin::Remote;
use crate::say::say;
use crate::scheduler;

#[derive(Args)]
pub struct Rollback {
    #[command(flatten)]
    remote: Remote,

    /// The component's id.
    id: String,

    /// The revision to serve. Without it, the one before the present one.
    revision: Option<u32>,
}

/// Serves an earlier revision.
///
/// # Errors
/// What the host says, or that it cannot be reached.
pub fn run(options: &Rollback) -> anyhow::Result<ExitCode> {
    let path = [options.id.as_str(), "rollback"];
    let query: Vec<_> = options.revision.iter().map(|n| ("revision", n)).collect();
    let asking = options
        .remote
        .call(Method::POST, &path, |request| request.query(&query));
    let (json, Serving { id, revision }) = scheduler::start()?.block_on(asking)?;
    match options.remote.json {
        true => say!("{json}"),
        false => say!("{id}: revision {revision}"),
    }
    Ok(ExitCode::SUCCESS)
}
