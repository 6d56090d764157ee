//! The WebAssembly engine: one per process, shared by every component.
//!
//! This folder and `capabilities/` are the only places that name wasmtime's types; the rest of the crate sees a
//! [`Component`](component::Component) that takes an HTTP request and gives an answer.

mod admission;
pub(crate) mod body;
mod cache;
mod compile;
pub(crate) mod component;
mod compose;
pub(crate) mod control;
pub(crate) mod figures;
mod functions;
mod instance;
mod outline;
mod output;
mod worker;

pub use self::cache::MAX_CODE_CACHE;
pub use self::compile::{COMPILE_COMPONENT, compile_component};
pub(crate) use self::output::visible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

pub(crate) use compose::{Part, compose, interfaces};
pub(crate) use instance::InstanceState;

use self::admission::Admission;
use crate::capabilities::{Capabilities, Grants};
use crate::manifest::Manifest;

/// Time between two ticks of the epoch: how often a component that computes without end hands its thread back, and
/// the resolution of CPU budgets. Short, because others wait for that long behind it; with 10 ms, their 99th percentile beside
/// a hostile component was twice what it is undisturbed (bench/, `hostile`).
const TICK: Duration = Duration::from_millis(5);

/// The engine, the interfaces it provides, and its cache of compiled code.
pub(crate) struct Engine {
    wasmtime: wasmtime::Engine,
    linker: Linker<InstanceState>,
    capabilities: Capabilities,
    cache: cache::CodeCache,
    observed: figures::Registry,
    /// A place for each instance that may exist.
    places: Arc<Semaphore>,
    /// Requests that need an instance, of all components: clients share them, too.
    admission: Arc<Admission>,
    /// Each request, until its instance is done with it: that may be after its answer.
    under_way: TaskTracker,
    /// Nobody waits any longer for the requests under way.
    stopped: AtomicBool,
    pooling: bool,
    stop_ticker: Arc<AtomicBool>,
}

impl Engine {
    /// Makes the engine.
    ///
    /// `instances` bounds how many component instances exist at once; `cache` is the folder of compiled code.
    pub(crate) fn new(
        capabilities: Capabilities,
        instances: u32,
        cache: &Path,
    ) -> anyhow::Result<Self> {
        let (wasmtime, pooling) = match wasmtime::Engine::new(&config(Some(instances))) {
            Ok(engine) => (engine, true),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "cannot reserve address space for {instances} pooled instances; allocating each on demand, which is slower"
                );
                (
                    wasmtime::Engine::new(&config(None)).map_err(anyhow::Error::from)?,
                    false,
                )
            }
        };
        let linker = link(&wasmtime)
            .map_err(anyhow::Error::from)
            .context("cannot link the host's interfaces")?;
        let cache = cache::CodeCache::open(cache, &wasmtime)?;
        let stop_ticker = Arc::new(AtomicBool::new(false));
        start_ticker(&wasmtime, Arc::clone(&stop_ticker))?;
        Ok(Self {
            wasmtime,
            linker,
            capabilities,
            cache,
            observed: figures::Registry::default(),
            places: Arc::new(Semaphore::new(instances as usize)),
            // Those that wait have a place in the queue of their component.
            admission: Arc::new(Admission::new(instances as usize, None, usize::MAX)),
            under_way: TaskTracker::new(),
            stopped: AtomicBool::new(false),
            pooling,
            stop_ticker,
        })
    }

    /// What the manifest grants the component `id`.
    pub(crate) fn grants(&self, manifest: &Manifest, id: &str) -> anyhow::Result<Grants> {
        self.capabilities
            .grants(manifest, &manifest.components[id])
            .with_context(|| format!("component {id}"))
    }

    /// Waits until no request is under way, also of revisions that are served no longer, or for this long. Answers whether
    /// all are done; those that are not end with the scheduler.
    pub(crate) async fn finish(&self, within: Duration) -> bool {
        self.under_way.close();
        let finished = tokio::time::timeout(within, self.under_way.wait())
            .await
            .is_ok();
        self.stopped.store(true, Ordering::Relaxed);
        finished
    }

    /// Whether the host waits for nothing any more: an instance that ends now, idle or not, ends with the scheduler.
    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether instances come from a pool of reserved memory.
    pub(crate) fn pooling(&self) -> bool {
        self.pooling
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop_ticker.store(true, Ordering::Relaxed);
    }
}

fn config(pooled_instances: Option<u32>) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.wasm_component_model_async(true);
    if let Some(instances) = pooled_instances {
        // The most of each that one component has. A composed one has a core instance and a table or two for each of its parts and
        // adapters, and a memory for each part. There is room for that in every place, so a component that takes much
        // leaves no other without; these are address space, not memory.
        const CORE_INSTANCES: u32 = 64;
        const MEMORIES: u32 = 8;
        const TABLES: u32 = 64;
        // A task that waits in the middle of a call keeps its stack.
        const STACKS: u32 = 16;
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(instances)
            .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
            .total_memories(instances.saturating_mul(MEMORIES))
            .total_tables(instances.saturating_mul(TABLES))
            .total_stacks(instances.saturating_mul(STACKS))
            .max_core_instances_per_component(CORE_INSTANCES)
            .max_memories_per_component(MEMORIES)
            .max_tables_per_component(TABLES)
            // Large enough for the interpreters that JavaScript and Python handlers carry.
            .table_elements(200_000)
            .max_core_instance_size(4 << 20)
            .max_component_instance_size(4 << 20)
            // Keep what a small handler touches, so that its next instance need not fault it in again.
            .linear_memory_keep_resident(256 << 10)
            .table_keep_resident(16 << 10)
            .pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// Links WASI 0.2 and 0.3 together, then each capability.
fn link(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<InstanceState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    Capabilities::link(&mut linker)?;
    Ok(linker)
}

/// Advances the epoch on a thread of its own: it must run even when every thread of the scheduler is busy.
fn start_ticker(engine: &wasmtime::Engine, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("epoch".into())
        .spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => break,
                }
            }
        })
        .context("cannot start the epoch thread")?;
    Ok(())
}
