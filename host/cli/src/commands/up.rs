//! `whisper-host up`: serves an application until it is stopped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use clap::Args;
use manifest::Manifest;
use queue::log::Log;
use runtime::Role;
use runtime::admin::Admin;
use runtime::deployment::Deployments;
use runtime::triggers::http::{Server, ServerConfig};
use telemetry::trace::Exporter;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::options::{Common, at_least_one, positive_duration};
use crate::queue::QueueOptions;
use crate::scheduler;
use crate::setup::{self, LoadedModel, Parts};
use crate::sharing::{self, Exchange};
use crate::store::{self, StoreOptions};
use crate::watch::Watch;

/// Time to connect to the collector of traces, and to send the last spans at the end.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Args)]
pub struct Up {
    #[command(flatten)]
    pub common: Common,

    /// Reload the application whenever the manifest or a file that it names changes. SIGHUP reloads once.
    #[arg(long, env = "WHISPER_HOST_WATCH")]
    pub watch: bool,

    /// Address to serve on.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8000",
        env = "WHISPER_HOST_LISTEN"
    )]
    pub listen: SocketAddr,

    /// Address of the admin interface: deploying, listing, logs. Addresses other than loopback need a token.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8001",
        env = "WHISPER_HOST_ADMIN_LISTEN"
    )]
    pub admin_listen: SocketAddr,

    /// Token that the admin interface requires.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "WHISPER_HOST_ADMIN_TOKEN",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub admin_token: Option<String>,

    /// Open connections. At the limit, an idle one is closed for a new one; if none is idle, the new one waits.
    #[arg(
        long,
        value_name = "N",
        value_parser = at_least_one, default_value_t = 1024,
        env = "WHISPER_HOST_MAX_CONNECTIONS"
    )]
    pub max_connections: usize,

    /// Open connections of one client, an IPv4 address or a /64 of IPv6. At the limit, an idle one is closed for a new one; if none
    /// is idle, the new one is closed.
    #[arg(
        long,
        value_name = "N",
        value_parser = at_least_one, default_value_t = 512,
        env = "WHISPER_HOST_MAX_CONNECTIONS_PER_CLIENT"
    )]
    pub max_connections_per_client: usize,

    /// Requests in flight of one client, an IPv4 address or a /64 of IPv6; further ones get 429.
    #[arg(
        long,
        value_name = "N",
        value_parser = at_least_one, default_value_t = 256,
        env = "WHISPER_HOST_MAX_REQUESTS_PER_CLIENT"
    )]
    pub max_requests_per_client: usize,

    /// How long a client may take to send a request's headers, or leave its connection idle.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = positive_duration, env = "WHISPER_HOST_HEADER_TIMEOUT")]
    pub header_timeout: Duration,

    #[command(flatten)]
    pub store: StoreOptions,

    #[command(flatten)]
    pub queue: QueueOptions,

    /// How long requests in flight may go on after SIGTERM.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration, env = "WHISPER_HOST_SHUTDOWN_TIMEOUT")]
    pub shutdown_timeout: Duration,
}

/// Serves. Exits with 0 after SIGTERM or SIGINT.
///
/// # Errors
/// When anything cannot be loaded, or the address cannot be bound.
pub fn run(options: &Up) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let runtime = scheduler::start()?;
    let exporter = runtime.block_on(async { exporter() })?;
    telemetry::log::start(
        &options.common.log,
        options.common.log_format(),
        exporter.as_ref(),
    )?;
    let ended = runtime.block_on(serve(options, started));
    if let Some(exporter) = exporter {
        exporter.shutdown(EXPORT_TIMEOUT);
    }
    // Does not wait for a model that is still loading when the host is stopped.
    runtime.shutdown_background();
    ended
}

/// Returns the exporter of traces, if the environment names a collector.
fn exporter() -> anyhow::Result<Option<Exporter>> {
    let client = || {
        fetch::use_ring();
        reqwest::Client::builder()
            .connect_timeout(EXPORT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .build()
            .context("cannot set up TLS to export traces")
    };
    Exporter::from_environment(client, env!("CARGO_PKG_VERSION"))
}

async fn serve(options: &Up, started: Instant) -> anyhow::Result<ExitCode> {
    // From here on, a signal stops the host gracefully, even while it is loading.
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    setup::raise_descriptor_limit(options.max_connections, options.common.max_instances);
    // The default action of these signals is to end the process. A write beyond the file size limit must fail, like one to a full
    // disk.
    let file_size = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    let _ignored = signal(file_size).context("cannot watch for SIGXFSZ")?;
    let hangup = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
    let mut watch = options.watch.then(Watch::new).transpose()?;
    if let Some(watch) = &mut watch {
        watch.follow([options.common.manifest.clone()]);
    }
    let _lock = setup::lock_state(&options.common.state_dir)?;
    // Before the store and the models, which create handles of their metrics when they are opened.
    let metrics = telemetry::Metrics::install()?;
    let queue = tokio::select! {
        queue = options.queue.open() => queue?,
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    let connection = queue.connection();
    let store = tokio::select! {
        store = options.store.open(&options.common.state_dir, connection.is_some()) => store?,
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    let loading = async {
        let Parts {
            manifest,
            host,
            models,
            store,
        } = setup::parts(&options.common, store, queue, metrics).await?;
        if let Some(watch) = &mut watch {
            watch.follow(watched(options, &manifest));
        }
        let state = options.common.state_dir.join("deployments");
        let deployments =
            scheduler::blocking(move || Deployments::open(host, manifest, &state)).await?;
        deployments.instantiate_all().await?;
        anyhow::Ok((Arc::new(deployments), models, store))
    };
    let (deployments, models, store) = tokio::select! {
        loaded = loading => loaded?,
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    let state = options.common.state_dir.clone();
    tokio::task::spawn_blocking(move || setup::tidy(&state, SystemTime::now() - started.elapsed()));
    // Loading models and compiling components takes much more memory than requests need: return it to the system.
    // SAFETY: may be called at any time.
    unsafe { libmimalloc_sys::mi_collect(true) };
    let is_shared = store.sharing().is_some();
    let summary = summary(options, &deployments, &models, is_shared);
    let config = ServerConfig {
        role: options.queue.role(),
        queue: connection.clone(),
        max_connections: options.max_connections,
        max_connections_per_client: options.max_connections_per_client,
        max_requests_per_client: options.max_requests_per_client,
        header_timeout: options.header_timeout,
        shutdown_timeout: options.shutdown_timeout,
    };
    let server = Server::bind(
        options.listen,
        Arc::clone(deployments.application()),
        config,
    )
    .await?;
    let admin = Admin::bind(
        options.admin_listen,
        options.admin_token.as_deref(),
        Arc::clone(&deployments),
        stop.clone(),
    )
    .await?;
    let address = server.address();
    let banner = format!(
        "{summary}\n  admin   http://{}\nready on http://{address} after {:.0} ms",
        admin.address(),
        started.elapsed().as_secs_f64() * 1e3
    );
    // On a separate thread: a reader that blocks must not block the host.
    std::thread::spawn(move || {
        if let Err(error) = crate::output::try_print_line(format_args!("{banner}")) {
            tracing::warn!(%error, "standard output is closed; the host keeps serving");
        }
    });
    let exchange = match &connection {
        Some(connection) if is_shared => {
            let config = queue::log::Config {
                name: sharing::STREAM.into(),
                max_age: options.store.retention(),
                replicas: options.queue.replicas(),
            };
            Some(Exchange::start(&store, Log::new(connection, config)))
        }
        _ => None,
    };
    deployments.start();
    tracing::info!(%address, admin = %admin.address(), "ready");

    let reloading = reload_when_asked(options, &deployments, hangup, watch);
    let serving = async {
        let stopped = async {
            stop.cancelled().await;
            deployments.host().stop_triggers();
            Instant::now()
        };
        let (finished, (), stopped) =
            tokio::join!(server.serve(stop.clone()), admin.serve(), stopped);
        // Components may go on after their responses.
        let left = options.shutdown_timeout.saturating_sub(stopped.elapsed());
        deployments.host().finish(left).await && finished
    };
    let all_finished = tokio::select! {
        finished = serving => finished,
        error = reloading => return Err(error),
    };
    if !all_finished {
        tracing::warn!(
            "stopped with requests still in flight; raise --shutdown-timeout to let them finish"
        );
        // They end now, and each has its line in the log.
        deployments.host().finish(Duration::from_secs(1)).await;
    }
    drop((deployments, models));
    if let Some(exchange) = exchange {
        exchange.stop().await;
    }
    if let Some(connection) = connection {
        connection.flush().await;
    }
    store::close(store).await?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Reloads the application at each SIGHUP and, with `--watch`, whenever its files change. Returns only on an error of the host
/// itself.
async fn reload_when_asked(
    options: &Up,
    deployments: &Deployments,
    mut hangup: Signal,
    mut watch: Option<Watch>,
) -> anyhow::Error {
    let sources = match setup::sources(&options.common) {
        Ok(sources) => sources,
        Err(error) => return error,
    };
    let mut pending = false;
    loop {
        if !std::mem::take(&mut pending) {
            next_change(&mut hangup, &mut watch).await;
        }
        tracing::info!("reloading the application");
        let manifest = setup::read_manifest(&options.common, &sources);
        let manifest = tokio::select! {
            manifest = manifest => manifest,
            // The fetch is out of date.
            () = next_change(&mut hangup, &mut watch) => {
                pending = true;
                continue;
            }
        };
        let reloaded = async {
            let manifest = manifest?;
            if let Some(watch) = &mut watch {
                watch.follow(watched(options, &manifest));
            }
            anyhow::Ok(deployments.reload(manifest).await?)
        };
        match reloaded.await {
            Ok(changed) => tracing::info!(changed = changed.join(", "), "reloaded the application"),
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "the application was not reloaded; the current one is still served"
            ),
        }
    }
}

/// Waits for the next SIGHUP or change of a watched file.
async fn next_change(hangup: &mut Signal, watch: &mut Option<Watch>) {
    let changed = async {
        match watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = hangup.recv() => {}
        () = changed => {}
    }
}

/// Returns the files that `--watch` watches.
fn watched(options: &Up, manifest: &Manifest) -> Vec<PathBuf> {
    let mut files = runtime::files_of(manifest);
    files.push(options.common.manifest.clone());
    files
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
        stop.cancel();
        tracing::info!(signal = name, "stopping: finishing requests in flight");
        let name = wait().await;
        tracing::warn!(signal = name, "stopping at once");
        telemetry::log::flush();
        std::process::exit(1);
    });
    Ok(())
}

/// Returns the text printed at startup.
fn summary(
    options: &Up,
    deployments: &Deployments,
    models: &[LoadedModel],
    is_shared: bool,
) -> String {
    use std::fmt::Write as _;
    let (application, host) = (deployments.application().load(), deployments.host());
    let mut text = format!("{} {}\n", application.name(), env!("CARGO_PKG_VERSION"));
    for component in application.report() {
        for route in &component.routes {
            let _ = writeln!(
                text,
                "  route   {:20} -> {} ({})",
                route,
                component.id,
                component.interfaces.join(", ")
            );
        }
    }
    for LoadedModel { id, folder, engine } in models {
        let model = engine.model();
        let _ = writeln!(
            text,
            "  model   {id}: {} ({}; {})",
            folder.display(),
            model.files.join(", "),
            model.languages.join(" ")
        );
        let _ = writeln!(text, "  device  {}", model.device);
    }
    if models.is_empty() {
        let why = match options.queue.role() {
            Role::Http => "requests that need one go to workers",
            Role::All | Role::Worker => "no component is granted one",
        };
        let _ = writeln!(text, "  model   none: {why}");
    }
    let _ = writeln!(
        text,
        "  store   {}{}",
        options.store.describe(&options.common.state_dir),
        if is_shared { ", shared over NATS" } else { "" }
    );
    if let Some(servers) = options.queue.describe() {
        let _ = writeln!(text, "  queue   {servers} (NATS)");
    }
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
