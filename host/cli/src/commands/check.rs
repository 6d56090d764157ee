//! `whisper-host check`: loads everything that serving needs, without serving.

use std::process::ExitCode;

use clap::Args;
use runtime::ComponentReport;

use crate::options::Common;
use crate::output::outln;
use crate::{scheduler, setup};

#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    pub common: Common,

    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Loads the application and prints what each component may use. Also fills the cache of compiled code.
///
/// # Errors
/// When the application cannot be served.
pub fn run(options: &Check) -> anyhow::Result<ExitCode> {
    telemetry::log::start(&options.common.log, options.common.log_format(), None)?;
    let report = scheduler::start()?.block_on(async {
        let loaded = setup::load(&options.common).await?;
        let report = loaded.application.report();
        loaded.close().await?;
        anyhow::Ok(report)
    })?;
    if options.json {
        let components: Vec<_> = report.iter().map(json).collect();
        outln!(
            "{}",
            serde_json::json!({"manifest": options.common.manifest, "components": components})
        );
    } else {
        for component in &report {
            outln!("{}", text(component).trim_end());
        }
        outln!("{}: ok", options.common.manifest.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn text(component: &ComponentReport) -> String {
    use std::fmt::Write as _;
    let limits = &component.limits;
    let mut text = format!("{}\n", component.id);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:9} {value}");
    };
    line("handles", component.interfaces.join(", "));
    line("routes", component.routes.join(", "));
    line(
        "may use",
        if component.grants.is_empty() {
            "nothing of the host".into()
        } else {
            component.grants.join("; ")
        },
    );
    line(
        "limits",
        format!(
            "{:?} per request, {:?} of CPU, {} of memory, {} of body, {} at once and {} waiting",
            limits.timeout,
            limits.cpu,
            limits.memory,
            limits.request_body,
            limits.concurrency,
            limits.queue
        ),
    );
    text
}

fn json(component: &ComponentReport) -> serde_json::Value {
    let limits = &component.limits;
    serde_json::json!({
        "id": component.id,
        "handler": component.interfaces.join(", "),
        "routes": component.routes,
        "grants": component.grants,
        "limits": {
            "timeout": limits.timeout.as_secs_f64(),
            "cpu": limits.cpu.as_secs_f64(),
            "memory": limits.memory.as_u64(),
            "request_body": limits.request_body.as_u64(),
            "concurrency": limits.concurrency,
            "queue": limits.queue,
        },
    })
}
