//! `whisper-host show`: one component of a running host.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use runtime::admin::api::Details;
use serde_json::Value;

use crate::admin::Remote;
use crate::say::say;
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
/// What the host says, or that it cannot be reached.
pub fn run(options: &Show) -> anyhow::Result<ExitCode> {
    let path = [options.id.as_str()];
    let asking = options.remote.call(Method::GET, &path, |request| request);
    let (json, Details { summary, revisions }) = scheduler::start()?.block_on(asking)?;
    if options.remote.json {
        say!("{json}");
        return Ok(ExitCode::SUCCESS);
    }
    say!("{}", summary.id);
    say!("  handles   {}", summary.handler.unwrap_or_default());
    say!("  routes    {}", summary.routes.join(", "));
    say!("  may use   {}", summary.grants.join(", "));
    for revision in revisions {
        let mark = match Some(revision.revision) == summary.revision {
            true => " (serving)",
            false => "",
        };
        say!(
            "  revision  {} sha256:{} {}{mark}",
            revision.revision,
            revision.digest.get(..12).unwrap_or_default(),
            routes(&revision.manifest),
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The routes that a revision's manifest names.
fn routes(manifest: &Value) -> String {
    let triggers = manifest["trigger"]["http"].as_array();
    let routes = triggers.into_iter().flatten();
    let routes = routes.filter_map(|trigger| trigger["route"].as_str());
    routes.collect::<Vec<_>>().join(", ")
}
