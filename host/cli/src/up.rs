//! `whisper-host up`: serves until it is told to stop.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use runtime::http::{Server, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::Up;
use crate::setup::{self, Loaded};

/// Serves. Exits with 0 after SIGTERM or SIGINT.
///
/// # Errors
/// When anything cannot be loaded, or the address cannot be bound.
pub fn run(options: &Up) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    crate::log::start(&options.common)?;
    setup::runtime()?.block_on(serve(options, started))
}

async fn serve(options: &Up, started: Instant) -> anyhow::Result<ExitCode> {
    // From here on a signal stops the host in an orderly way, also while it still loads.
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;

    let store = setup::open_store(&options.common.state_dir)?;
    let Loaded {
        application,
        host,
        model,
        store,
    } = tokio::select! {
        loaded = setup::load(&options.common, store) => loaded?,
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    let summary = summary(options, &application, &host, model.as_deref());
    let application = Arc::new(arc_swap::ArcSwap::from_pointee(application));
    let config = ServerConfig {
        max_connections: options.max_connections,
        max_requests_per_client: options.max_requests_per_client,
        header_timeout: options.header_timeout,
        shutdown_timeout: options.shutdown_timeout,
    };
    let server = Server::bind(options.listen, application, config).await?;
    let address = server.address();
    println!("{summary}");
    println!(
        "ready on http://{address} after {:.0} ms",
        started.elapsed().as_secs_f64() * 1e3
    );
    tracing::info!(%address, "ready");

    let all_finished = server.serve(stop).await;
    if !all_finished {
        tracing::warn!(
            "stopped with requests still under way; raise --shutdown-timeout to let them finish"
        );
    }
    drop((host, model));
    setup::close_store(store).await?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Cancels `stop` at the first SIGTERM or SIGINT; the second ends the process at once.
fn stop_on_signals(stop: &CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut wait = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let name = wait().await;
        tracing::info!(signal = name, "stopping: finishing the requests under way");
        stop.cancel();
        let name = wait().await;
        tracing::warn!(signal = name, "stopping at once");
        std::process::exit(1);
    });
    Ok(())
}

/// The block that start-up prints.
fn summary(
    options: &Up,
    application: &runtime::Application,
    host: &runtime::Host,
    model: Option<&inference::Engine>,
) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{} {}\n", application.name(), env!("CARGO_PKG_VERSION"));
    for component in application.report() {
        for route in &component.routes {
            let _ = writeln!(
                text,
                "  route   {:20} -> {} ({})",
                route, component.id, component.handler
            );
        }
    }
    match model {
        Some(engine) => {
            let model = engine.model();
            let _ = writeln!(
                text,
                "  model   {} ({}; {})",
                options.common.model.display(),
                model.files.join(", "),
                model.languages.join(" ")
            );
            let _ = writeln!(text, "  device  {}", model.device);
        }
        None => {
            let _ = writeln!(text, "  model   none: no component is granted one");
        }
    }
    let _ = writeln!(
        text,
        "  store   {} (SQLite)",
        setup::store_path(&options.common.state_dir).display()
    );
    let _ = write!(
        text,
        "  pool    {} component instances{}",
        options.common.max_instances,
        if host.pooling() {
            ""
        } else {
            ", allocated on demand"
        }
    );
    text
}
