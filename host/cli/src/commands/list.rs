//! `whisper-host list`: lists what a running host serves.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use runtime::admin::api::Components;

use crate::admin::Remote;
use crate::output::outln;
use crate::scheduler;

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    remote: Remote,
}

/// Lists all components with their metrics.
///
/// # Errors
/// When the host cannot be reached, or responds with an error.
pub fn run(options: &List) -> anyhow::Result<ExitCode> {
    let listing = options.remote.call(Method::GET, &[], |request| request);
    let (json, Components { components }) = scheduler::start()?.block_on(listing)?;
    if options.remote.json {
        outln!("{json}");
        return Ok(ExitCode::SUCCESS);
    }
    outln!(
        "{:20} {:>8} {:>9} {:>7} {:>7} {:>6} {:>8} {:>7} {:>9} {:>9} {:>10}  ROUTES",
        "COMPONENT",
        "REVISION",
        "REQUESTS",
        "RUNNING",
        "WAITING",
        "TRAPS",
        "TIMEOUTS",
        "REFUSED",
        "RAN",
        "QUEUED",
        "MEMORY"
    );
    for component in components {
        let metrics = component.metrics.unwrap_or_default();
        outln!(
            "{:20} {:>8} {:>9} {:>7} {:>7} {:>6} {:>8} {:>7} {:>7.1} s {:>7.1} s {:>6} KiB  {}",
            component.id,
            component
                .revision
                .map_or("-".to_owned(), |revision| revision.to_string()),
            metrics.requests,
            metrics.running,
            metrics.waiting,
            metrics.traps,
            metrics.timeouts,
            metrics.refused,
            metrics.instance_seconds,
            metrics.queue_seconds,
            metrics.memory_high_water >> 10,
            match component.loaded {
                true => component.routes.join(", "),
                false => "not loaded; the log says why".to_owned(),
            },
        );
    }
    Ok(ExitCode::SUCCESS)
}
