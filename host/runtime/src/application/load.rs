//! Loading an application from a manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use manifest::{Digest, Manifest};
use queue::Connection;
use queue::jobs::{self, Jobs};
use tokio_util::sync::CancellationToken;

use super::compose::composed;
use super::loaded::{Loaded, Origin};
use super::reuse::Reuse;
use super::served::Application;
use crate::capabilities::Capabilities;
use crate::engine::{Component, Engine};
use crate::invocation::{Invocations, Target};
use crate::role::Role;
use crate::triggers::{self, Handlers, Sources, Tables};
use crate::webhooks::Webhooks;

/// The host: the engine with its capabilities, and the invocations of all components.
pub struct Host {
    engine: Arc<Engine>,
    invocations: Arc<Invocations>,
    sources: Sources,
    /// Parent of those of all applications.
    stop: CancellationToken,
}

/// Settings of a host.
pub struct HostConfig {
    /// Concurrent component instances.
    pub instances: u32,
    /// Folder for compiled code.
    pub cache: PathBuf,
    /// Which part of the work it does.
    pub role: Role,
    /// The connection to NATS, if there is one, and how jobs are kept there.
    pub queue: Option<(Connection, jobs::Config)>,
    /// What signs the callbacks of jobs, if anything does.
    pub webhooks: Option<Webhooks>,
}

impl Host {
    /// Creates a host. Reports on its components are read from `metrics`, the recorder of this process.
    ///
    /// Components are compiled by another process of the same program: when started with
    /// [`COMPILE_COMPONENT`](crate::COMPILE_COMPONENT), it must call [`compile_component`](crate::compile_component).
    ///
    /// # Errors
    /// When the engine cannot be set up or the folder cannot be written.
    pub fn new(
        capabilities: Capabilities,
        config: HostConfig,
        metrics: telemetry::Metrics,
    ) -> anyhow::Result<Self> {
        let HostConfig {
            instances,
            cache,
            role,
            queue,
            webhooks,
        } = config;
        let jobs = queue.as_ref();
        let jobs = jobs.map(|(connection, config)| Arc::new(Jobs::new(connection, config.clone())));
        Ok(Self {
            sources: Sources {
                role,
                queue: queue.map(|(connection, _)| connection),
                jobs,
                webhooks: webhooks.map(Arc::new),
            },
            stop: CancellationToken::new(),
            engine: Arc::new(Engine::new(capabilities, instances, &cache)?),
            invocations: Arc::new(Invocations::new(instances, metrics)),
        })
    }

    /// Returns the recorder of this process.
    #[must_use]
    pub fn metrics(&self) -> &telemetry::Metrics {
        self.invocations.metrics()
    }

    /// Returns where events come from, apart from servers.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Ends the triggers of all applications, except for servers: they take no more events.
    pub fn stop_triggers(&self) {
        self.stop.cancel();
    }

    /// Waits until all requests are finished, including what components do after their responses, but at most for `timeout`.
    /// Returns whether all are.
    pub async fn finish(&self, timeout: Duration) -> bool {
        self.invocations.finish(timeout).await
    }

    /// Returns whether component instances come from a pool of reserved memory.
    #[must_use]
    pub fn pooling(&self) -> bool {
        self.engine.pooling()
    }

    /// Loads every component of the manifest that a trigger names, reusing loaded ones as `reuse` allows.
    ///
    /// # Errors
    /// When a source cannot be read, composed, compiled or linked, when it lacks a grant, when routes clash, or when `cancel`
    /// is cancelled.
    pub fn load(
        &self,
        manifest: &Manifest,
        reuse: Reuse<'_>,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Application> {
        let mut components = BTreeMap::new();
        for id in triggers::components(manifest) {
            let loaded = match reuse.unconditional(manifest, id) {
                Some(loaded) => loaded.clone(),
                None => self.component(manifest, id, reuse.candidate(id), cancel)?,
            };
            components.insert(id.to_owned(), loaded);
        }
        let handlers = components
            .iter()
            .map(|(id, loaded)| (id.as_str(), loaded.handlers.clone()))
            .collect();
        Ok(Application {
            name: manifest.application.name.clone(),
            tables: Tables::new(manifest, &handlers, &self.sources, self.stop.child_token())?,
            components,
        })
    }

    /// Loads a component, unless `current` has the same origin and can be reused.
    fn component(
        &self,
        manifest: &Manifest,
        id: &str,
        current: Option<&Loaded>,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Loaded> {
        let wasm = composed(manifest, id, &mut BTreeMap::new())?;
        let entry = &manifest.components[id];
        let grants = self.engine.capabilities.grants(manifest, entry);
        let grants = grants.with_context(|| format!("component {id}"))?;
        let origin = Origin {
            entry: entry.clone(),
            variables: manifest.variables.clone(),
            wasm: Digest::of(&wasm),
            files: grants.files().map(Path::to_path_buf),
        };
        if let Some(current) = current.filter(|current| *current.origin == origin) {
            let handlers = Handlers::new(manifest, &current.component, Some(&current.handlers))?;
            return Ok(Loaded {
                handlers,
                ..current.clone()
            });
        }
        let limits = entry.tool.whisper_host.limits.clone();
        let target = Arc::new(Target::new(id, limits, &self.invocations));
        let (component, code) = Component::prepare(
            &self.engine,
            target,
            grants,
            &wasm,
            |outline| triggers::check(manifest, id, outline),
            cancel,
        )?;
        let component = Arc::new(component);
        let handlers = Handlers::new(manifest, &component, None)?;
        component.cache_code(code);
        Ok(Loaded {
            component,
            handlers,
            origin: Arc::new(origin),
        })
    }
}
