//! The engine: one per process, shared by all components.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::Semaphore;
use wasmtime::component::Linker;

use super::cache::CodeCache;
use super::config::config;
use super::instance::InstanceState;
use super::ticker::Ticker;
use crate::capabilities::Capabilities;

/// The engine, the interfaces it provides, and its cache of compiled code.
pub(crate) struct Engine {
    pub(super) wasmtime: wasmtime::Engine,
    pub(super) linker: Linker<InstanceState>,
    pub(crate) capabilities: Capabilities,
    pub(super) cache: CodeCache,
    /// One permit per instance that may exist.
    pub(super) instances: Arc<Semaphore>,
    pooling: bool,
    _ticker: Ticker,
}

impl Engine {
    /// Creates the engine with at most `instances` concurrent component instances; `cache` is the folder of compiled code.
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
                    "cannot reserve address space for {instances} pooled instances; allocating them on demand, which is slower"
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
        Ok(Self {
            cache: CodeCache::open(cache, &wasmtime)?,
            _ticker: Ticker::start(&wasmtime)?,
            wasmtime,
            linker,
            capabilities,
            instances: Arc::new(Semaphore::new(instances as usize)),
            pooling,
        })
    }

    /// Returns whether instances come from a pool of reserved memory.
    pub(crate) fn pooling(&self) -> bool {
        self.pooling
    }
}

/// Links WASI 0.2 and 0.3, then each capability.
fn link(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<InstanceState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    Capabilities::link(&mut linker)?;
    Ok(linker)
}
