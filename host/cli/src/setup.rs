//! Assembles the models, the store, the host and the application.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use fetch::components::Sources;
use manifest::Manifest;
use runtime::capabilities::{Capabilities, Resources};
use runtime::{Application, Host, HostConfig, Reuse, Role};
use tokio_util::sync::CancellationToken;

use crate::options::{Common, Device, Model, Precision};
use crate::queue::Queue;
use crate::scheduler::blocking;
use crate::{fetching, progress, store};

/// Everything needed to load an application.
pub struct Parts {
    pub manifest: Manifest,
    pub host: Host,
    /// Empty if no component is granted a model.
    pub models: Vec<LoadedModel>,
    pub store: Arc<timeseries::Store>,
}

/// A model that components may be granted.
#[derive(Clone)]
pub struct LoadedModel {
    /// The id that they use for it.
    pub id: String,
    pub folder: PathBuf,
    pub engine: Arc<inference::Engine>,
}

/// A loaded application, and what it runs on.
pub struct Loaded {
    pub application: Application,
    host: Host,
    pub models: Vec<LoadedModel>,
    pub metrics: telemetry::Metrics,
    store: Arc<timeseries::Store>,
}

impl Loaded {
    /// Waits until all requests are finished, unloads everything and closes the store.
    ///
    /// # Errors
    /// When the store cannot finish its last writes.
    pub async fn close(self) -> anyhow::Result<()> {
        let Self {
            application,
            host,
            models,
            store,
            metrics: _,
        } = self;
        // Each request has its own time limit.
        host.finish(Duration::MAX).await;
        drop((application, host, models));
        store::close(store).await
    }
}

/// File descriptors needed besides those of clients and of the files of components: the model, the store, outbound requests.
const OTHER_DESCRIPTORS: u64 = 4096;

/// Raises the limit of open files as far as possible, and warns if that is too few for the connections and component instances.
pub fn raise_descriptor_limit(max_connections: usize, max_instances: u32) {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    let files = u64::from(max_instances) * runtime::capabilities::MAX_OPEN_FILES as u64;
    let needed = 2 * max_connections as u64 + files + OTHER_DESCRIPTORS;
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    limit.current = match limit.maximum {
        Some(max) if max < needed => Some(max),
        _ => Some(needed),
    };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    if let Some(max) = limit.maximum.filter(|&max| max < needed) {
        tracing::warn!(
            limit = max,
            needed,
            "the process may open too few files for --max-connections and --max-instances: raise its limit (`ulimit -n`, LimitNOFILE=), or lower the settings"
        );
    }
}

/// Loads the application of the manifest with a store in memory, and instantiates each component once, so that errors in its
/// initialization show.
pub async fn load(common: &Common) -> anyhow::Result<Loaded> {
    let metrics = telemetry::Metrics::install()?;
    let store = timeseries::Store::in_memory()?;
    let Parts {
        manifest,
        host,
        models,
        store,
    } = parts(common, store, Queue::default(), metrics.clone()).await?;
    let (host, application) = blocking(move || {
        let application = host.load(&manifest, Reuse::Nothing, &CancellationToken::new())?;
        Ok((host, application))
    })
    .await?;
    application.instantiate_all().await?;
    Ok(Loaded {
        application,
        host,
        models,
        metrics,
        store,
    })
}

/// Reads the manifest, and loads the engine and, if a component uses models, the models.
pub async fn parts(
    common: &Common,
    store: timeseries::Store,
    queue: Queue,
    metrics: telemetry::Metrics,
) -> anyhow::Result<Parts> {
    let manifest = read_manifest(common, &sources(common)?).await?;
    let store = Arc::new(store);
    let wants_models = manifest
        .components
        .values()
        .any(|component| !component.ai_models.is_empty());
    let configs = match queue.role {
        Role::All | Role::Worker if wants_models => Some(model_configs(common).await?),
        Role::All | Role::Worker => Some(Vec::new()),
        Role::Http => None,
    };
    let instances = common.max_instances;
    let mut authorities = common.outbound_authorities.clone();
    authorities.extend(std::env::var_os("SSL_CERT_FILE").map(PathBuf::from));
    let (code, files) = (
        common.state_dir.join("code"),
        common.state_dir.join("files"),
    );
    let shared_store = Arc::clone(&store);
    let (host, models) = blocking(move || {
        let has_models = configs.is_some();
        let models = configs
            .into_iter()
            .flatten()
            .map(|(id, folder, config)| {
                let engine = Arc::new(inference::Engine::load(config)?);
                Ok(LoadedModel { id, folder, engine })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let by_id = |model: &LoadedModel| (model.id.clone(), Arc::clone(&model.engine));
        let capabilities = Capabilities::new(&Resources {
            models: has_models.then(|| models.iter().map(by_id).collect()),
            store: shared_store,
            queue: queue.connection(),
            environment: std::env::vars_os().collect(),
            outbound_authorities: authorities,
            files,
        })?;
        let config = HostConfig {
            instances,
            cache: code,
            role: queue.role,
            queue: queue.jobs,
            webhooks: queue.webhooks,
        };
        let host = Host::new(capabilities, config, metrics)?;
        Ok((host, models))
    })
    .await?;
    Ok(Parts {
        manifest,
        host,
        models,
        store,
    })
}

/// Creates the fetcher of remote components.
///
/// # Errors
/// When its folder cannot be created.
pub fn sources(common: &Common) -> anyhow::Result<Sources> {
    Sources::new(&common.state_dir.join("sources"), progress::bytes())
}

/// Reads the manifest, and fetches its remote components.
///
/// # Errors
/// When the manifest is invalid, or a component cannot be fetched.
pub async fn read_manifest(common: &Common, sources: &Sources) -> anyhow::Result<Manifest> {
    sources
        .localize(Manifest::read(&common.manifest, &runtime::format())?)
        .await
}

/// Returns the id, the folder and the settings of each model, fetching missing models.
async fn model_configs(
    common: &Common,
) -> anyhow::Result<Vec<(String, PathBuf, inference::Config)>> {
    let store = fetch::models::Store::new(&common.models.folder);
    let precision = fetching::precision(common.precision, common.device);
    let mut configs: Vec<(String, PathBuf, inference::Config)> = Vec::new();
    for Model { id, wanted } in &common.model {
        anyhow::ensure!(
            configs.iter().all(|(other, _, _)| other != id),
            "two models have the id `{id}`; give each its own: --model {id}=… --model other={wanted}"
        );
        let folder = fetching::locate_or_fetch(&store, wanted, precision)
            .await
            .with_context(|| format!("model {id}"))?;
        let mut config = model_config(common, &folder);
        config.name.clone_from(id);
        configs.push((id.clone(), folder, config));
    }
    Ok(configs)
}

fn model_config(common: &Common, folder: &Path) -> inference::Config {
    let mut config = inference::Config::new(folder, &common.onnxruntime);
    config.device = match common.device {
        Device::Auto => inference::Device::Auto,
        Device::Cpu => inference::Device::Cpu,
        Device::Cuda => inference::Device::Cuda,
    };
    config.precision = match common.precision {
        Precision::Auto => inference::Precision::Auto,
        Precision::Fp32 => inference::Precision::Fp32,
        Precision::Fp16 => inference::Precision::Fp16,
        Precision::Int8 => inference::Precision::Int8,
    };
    if common.inference_threads > 0 {
        config.threads = common.inference_threads;
    }
    config.cache = Some(common.state_dir.join("models"));
    config.max_batch = common.max_batch;
    config.max_queue = common.max_transcriptions;
    config
}

/// Locks the state folder for this host until the file is dropped. Two hosts would overwrite each other's record of deployments. The
/// system releases the lock when the process ends for any reason.
///
/// # Errors
/// When the folder cannot be created, or another host uses it.
pub fn lock_state(state_dir: &Path) -> anyhow::Result<std::fs::File> {
    let path = state_dir.join("lock");
    let failed = || format!("cannot lock {}; choose another --state-dir", path.display());
    std::fs::create_dir_all(state_dir).with_context(failed)?;
    let file = std::fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => anyhow::bail!(
            "another host uses {}; stop it, or choose another --state-dir",
            state_dir.display()
        ),
        Err(std::fs::TryLockError::Error(error)) => Err(error).with_context(failed),
    }
}

/// Caches in the state folder, and their size limits in bytes.
const CACHES: [(&str, u64); 4] = [
    ("code", runtime::MAX_CODE_CACHE),
    ("files", 4 << 30),
    ("sources", 4 << 30),
    ("models", 32 << 30),
];

/// Removes from the state folder entries that have not been used for long or exceed the size limits, and temporary files of killed
/// processes. Entries used after `started` stay.
pub fn tidy(state_dir: &Path, started: SystemTime) {
    let prune = |name: &str, bytes, started| {
        let folder = state_dir.join(name);
        let state::Pruned { entries, bytes } = state::prune(&folder, bytes, started);
        if entries > 0 {
            tracing::info!(
                folder = %folder.display(),
                entries,
                bytes,
                "removed unused entries from the state folder"
            );
        }
    };
    for (name, bytes) in CACHES {
        prune(name, bytes, started);
    }
    // Only temporary files: the record of deployments removes components itself.
    prune("deployments", u64::MAX, SystemTime::UNIX_EPOCH);
}
