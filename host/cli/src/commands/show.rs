//! `whisper-host show`: shows one component of a running host.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use runtime::admin::api::Details;
use serde_json::Value;

use crate::admin::Remote;
use crate::output::outln;
use crate::scheduler;

#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    remote: Remote,

    /// The component's id.
    id: String,
}

/// Shows one component, with its revisions.
///
/// # Errors
/// When the host cannot be reached, or responds with an error.
pub fn run(options: &Show) -> anyhow::Result<ExitCode> {
    let path = [options.id.as_str()];
    let call = options.remote.call(Method::GET, &path, |request| request);
    let (json, Details { summary, revisions }) = scheduler::start()?.block_on(call)?;
    if options.remote.json {
        outln!("{json}");
        return Ok(ExitCode::SUCCESS);
    }
    outln!("{}", summary.id);
    outln!("  handles   {}", summary.handler.unwrap_or_default());
    outln!("  routes    {}", summary.routes.join(", "));
    outln!("  may use   {}", summary.grants.join(", "));
    for revision in revisions {
        let mark = match Some(revision.revision) == summary.revision {
            true => " (serving)",
            false => "",
        };
        outln!(
            "  revision  {} sha256:{} {}{mark}",
            revision.revision,
            revision.digest.get(..12).unwrap_or_default(),
            routes(&revision.manifest),
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the routes in a revision's manifest.
fn routes(manifest: &Value) -> String {
    let triggers = manifest["trigger"]["http"].as_array();
    let routes = triggers.into_iter().flatten();
    let routes = routes.filter_map(|trigger| trigger["route"].as_str());
    routes.collect::<Vec<_>>().join(", ")
}
