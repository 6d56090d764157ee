//! A component that is compiled, linked and ready to be instantiated.

use std::pin::pin;
use std::sync::Arc;

use anyhow::Context as _;
use metrics::Gauge;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use wasmtime::Store;
use wasmtime::component::InstancePre;

use super::cache::Compiled;
use super::config::MAX_COMPONENT_INSTANCES;
use super::current::{Current, lock};
use super::instance::{InstanceState, Settings};
use super::outline::Outline;
use super::shared::Engine;
use crate::capabilities::{Capabilities, Grants};
use crate::invocation::{Invocation, Stop, Target};

/// A component, independent of its triggers.
pub(crate) struct Component {
    engine: Arc<Engine>,
    settings: Settings,
    pre: InstancePre<InstanceState>,
}

/// Compiled code that is not in the cache yet.
pub(crate) struct NewCode(Compiled);

/// A running instance.
pub(crate) struct Started<T> {
    pub(crate) store: Store<InstanceState>,
    pub(crate) exports: T,
    pub(crate) current: Current,
    /// Must be held until the instance is freed.
    pub(crate) permit: InstancePermit,
}

/// The permit of an instance, which counts it.
pub(crate) struct InstancePermit {
    _permit: OwnedSemaphorePermit,
    instances: Gauge,
}

impl InstancePermit {
    fn new(permit: OwnedSemaphorePermit, instances: &Gauge) -> Self {
        instances.increment(1.0);
        Self {
            _permit: permit,
            instances: instances.clone(),
        }
    }
}

impl Drop for InstancePermit {
    fn drop(&mut self) {
        self.instances.decrement(1.0);
    }
}

impl Component {
    /// Compiles a component, and links it to what it is granted. `check_exports` fails if no trigger can call the exports: such a
    /// component is not worth compiling.
    ///
    /// # Errors
    /// When the bytes are not a component, or it imports what the host does not provide or the manifest does not grant. The message
    /// says what is missing and what would provide it.
    pub(crate) fn prepare(
        engine: &Arc<Engine>,
        target: Arc<Target>,
        grants: Grants,
        wasm: &[u8],
        check_exports: impl FnOnce(&Outline) -> anyhow::Result<()>,
        cancel: &CancellationToken,
    ) -> anyhow::Result<(Self, NewCode)> {
        let id = &target.id;
        let not_compiled = || format!("component {id} cannot be compiled");
        let outline = Outline::of(wasm).with_context(not_compiled)?;
        for import in &outline.imports {
            if let Some(how) = grants.missing(import) {
                anyhow::bail!(
                    "component {id} imports {import}, which its manifest entry does not grant: {how}"
                );
            }
        }
        check_exports(&outline)?;
        anyhow::ensure!(
            outline.instances <= MAX_COMPONENT_INSTANCES,
            "component {id} consists of more than {MAX_COMPONENT_INSTANCES} component instances with its dependencies; divide it"
        );
        let compiled = engine
            .cache
            .component(wasm, cancel)
            .with_context(not_compiled)?;
        let pre = engine
            .linker
            .instantiate_pre(&compiled.component)
            .map_err(|error| not_provided(id, &outline.imports, &error))?;
        let component = Self {
            engine: Arc::clone(engine),
            settings: Settings { target, grants },
            pre,
        };
        Ok((component, NewCode(compiled)))
    }

    /// Adds new code to the cache, once the component can be served.
    pub(crate) fn cache_code(&self, code: NewCode) {
        self.engine.cache.store(code.0);
    }

    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.settings.target
    }

    pub(crate) fn grants(&self) -> &Grants {
        &self.settings.grants
    }

    pub(crate) fn pre(&self) -> &InstancePre<InstanceState> {
        &self.pre
    }

    /// Creates an instance with `instantiate`, within the time limit of an invocation.
    ///
    /// # Errors
    /// When the component's own initialization fails; with a [`Stop`] as context if the host had no free instance or stopped it at
    /// a limit.
    pub(crate) async fn start<T>(
        &self,
        instantiate: impl AsyncFnOnce(&mut Store<InstanceState>) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<Started<T>> {
        let target = &self.settings.target;
        let limits = &target.limits;
        // The pool has room for as many instances as there are permits.
        let permit = Arc::clone(&self.engine.instances).acquire_owned();
        let permit = tokio::time::timeout(limits.queue_timeout, permit)
            .await
            .map_err(|_| {
                wasmtime::format_err!(
                    "all instances were in use for {}",
                    humantime::format_duration(limits.queue_timeout)
                )
                .context(Stop::NoInstance)
            })??;
        let permit = InstancePermit::new(permit, &target.telemetry.metrics.instances);
        let current = Current::default();
        let mut store = InstanceState::store(
            &self.engine.wasmtime,
            &self.engine.capabilities,
            &self.settings,
            &current,
        )?;
        let started = tokio::time::timeout(limits.timeout, instantiate(&mut store))
            .await
            .unwrap_or_else(|_| {
                lock(&current).failed_to_start = Some(Stop::Timeout);
                Err(wasmtime::format_err!(
                    "its own initialization took too long"
                ))
            });
        let stopped = lock(&current).failed_to_start;
        match (started, stopped) {
            (Ok(exports), _) => Ok(Started {
                store,
                exports,
                current,
                permit,
            }),
            (Err(error), None) => Err(error),
            (Err(error), Some(stop)) => Err(error.context(stop)),
        }
    }

    /// Runs an invocation in an instance of its own: creates it with `instantiate`, and calls it with `call`.
    ///
    /// # Errors
    /// When the component traps, with a [`Stop`] as context if it could not be started. A limit that it reached later is the
    /// invocation's [`stop`](Invocation::stop).
    pub(crate) async fn run<T, R>(
        &self,
        invocation: &Arc<Invocation>,
        instantiate: impl AsyncFnOnce(&mut Store<InstanceState>) -> wasmtime::Result<T>,
        call: impl AsyncFnOnce(&mut Store<InstanceState>, T) -> wasmtime::Result<R>,
    ) -> wasmtime::Result<R> {
        let Started {
            mut store,
            exports,
            current,
            permit: _permit,
        } = self.start(instantiate).await?;
        store.data_mut().begin(invocation);
        lock(&current).begin(invocation);
        let mut call = pin!(call(&mut store, exports));
        let called = std::future::poll_fn(|context| {
            lock(&current).suspended();
            call.as_mut().poll(context)
        });
        let called = tokio::time::timeout_at(invocation.deadline, called).await;
        called.unwrap_or_else(|_| {
            invocation.stop_at(Stop::Timeout);
            Err(wasmtime::format_err!("{}", Stop::Timeout))
        })
    }

    /// Creates an instance and drops it.
    pub(crate) async fn instantiate(&self) -> anyhow::Result<()> {
        let started = self
            .start(async |store| self.pre.instantiate_async(store).await)
            .await;
        started.map(drop).map_err(anyhow::Error::from)
    }
}

/// Returns the error for imports that the host does not provide.
fn not_provided(id: &str, imports: &[String], error: &wasmtime::Error) -> anyhow::Error {
    let foreign: Vec<&str> = imports
        .iter()
        .map(String::as_str)
        .filter(|import| !import.starts_with("wasi:") && !Capabilities::is_provided(import))
        .collect();
    if foreign.is_empty() {
        return anyhow::anyhow!(
            "component {id} imports a WASI interface that this host does not provide; it provides WASI 0.2 and 0.3: {error:#}"
        );
    }
    anyhow::anyhow!(
        "component {id} imports {}, which this host does not provide; if another component does, name it under [component.{id}.dependencies]",
        foreign.join(" and ")
    )
}
