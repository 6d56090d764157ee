//! `whisper-host rollback`: serves an earlier revision.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use runtime::admin::api::Serving;

use crate::admin::Remote;
use crate::output::outln;
use crate::scheduler;

#[derive(Args)]
pub struct Rollback {
    #[command(flatten)]
    remote: Remote,

    /// The component's id.
    id: String,

    /// The revision to serve. Default: the one before the current one.
    revision: Option<u32>,
}

/// Serves an earlier revision.
///
/// # Errors
/// When the host cannot be reached, or responds with an error.
pub fn run(options: &Rollback) -> anyhow::Result<ExitCode> {
    let path = [options.id.as_str(), "rollback"];
    let query: Vec<_> = options.revision.iter().map(|n| ("revision", n)).collect();
    let call = options
        .remote
        .call(Method::POST, &path, |request| request.query(&query));
    let (json, Serving { id, revision }) = scheduler::start()?.block_on(call)?;
    match options.remote.json {
        true => outln!("{json}"),
        false => outln!("{id}: revision {revision}"),
    }
    Ok(ExitCode::SUCCESS)
}
