//! `whisper-host remove`: removes a deployed component.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use runtime::admin::api::Removed;

use crate::admin::Remote;
use crate::output::outln;
use crate::scheduler;

#[derive(Args)]
pub struct Remove {
    #[command(flatten)]
    remote: Remote,

    /// The component's id.
    id: String,
}

/// Removes a component.
///
/// # Errors
/// When the host cannot be reached, or responds with an error.
pub fn run(options: &Remove) -> anyhow::Result<ExitCode> {
    let path = [options.id.as_str()];
    let call = options
        .remote
        .call(Method::DELETE, &path, |request| request);
    let (json, Removed { id, .. }) = scheduler::start()?.block_on(call)?;
    match options.remote.json {
        true => outln!("{json}"),
        false => outln!("{id}: removed"),
    }
    Ok(ExitCode::SUCCESS)
}
