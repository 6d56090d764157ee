//! Serves the default application like `whisper-host up`, with access to the model.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use manifest::Manifest;
use runtime::capabilities::{Capabilities, Resources};
use runtime::triggers::http::{Server, ServerConfig};
use runtime::{Host, HostConfig, Reuse, Role};
use tokio_util::sync::CancellationToken;

/// The running server and its model.
pub struct Served {
    pub url: String,
    pub model: Arc<inference::Engine>,
    pub metrics: telemetry::Metrics,
    _host: Host,
}

/// Starts the server with this model; all other settings are the defaults.
pub async fn start(state: &Path, config: inference::Config) -> anyhow::Result<Served> {
    let manifest = Manifest::read(Path::new("spin.toml"), &runtime::format())?;
    let metrics = telemetry::Metrics::install()?;
    let model = Arc::new(inference::Engine::load(config)?);
    let store = Arc::new(timeseries::Store::open_sqlite(
        state.join("timeseries.sqlite"),
        None,
    )?);
    let capabilities = Capabilities::new(&Resources {
        models: Some(BTreeMap::from([("whisper".into(), Arc::clone(&model))])),
        store,
        queue: None,
        environment: std::env::vars_os().collect(),
        outbound_authorities: Vec::new(),
        files: state.join("files"),
    })?;
    let config = HostConfig {
        instances: 64,
        cache: state.join("code"),
        role: Role::All,
        queue: None,
        webhooks: None,
    };
    let host = Host::new(capabilities, config, metrics.clone())?;
    let application = Arc::new(ArcSwap::from_pointee(host.load(
        &manifest,
        Reuse::Nothing,
        &CancellationToken::new(),
    )?));
    let config = ServerConfig {
        role: Role::All,
        queue: None,
        max_connections: 1024,
        max_connections_per_client: 512,
        max_requests_per_client: 256,
        header_timeout: Duration::from_secs(30),
        shutdown_timeout: Duration::ZERO,
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::bind(address, application, config).await?;
    let url = format!("http://{}", server.address());
    tokio::spawn(server.serve(CancellationToken::new()));
    Ok(Served {
        url,
        model,
        metrics,
        _host: host,
    })
}
