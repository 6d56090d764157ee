//! From a manifest to an application.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use manifest::{Digest, Manifest};
use tokio_util::sync::CancellationToken;

use super::compose::composed;
use super::loaded::{Loaded, Origin};
use super::reuse::Reuse;
use super::served::Application;
use crate::capabilities::Capabilities;
use crate::engine::{Component, Engine};
use crate::invocation::{Invocations, Target};
use crate::triggers::{self, Handlers, Tables};

/// The host: the engine, and what it lends to components.
pub struct Host {
    engine: Arc<Engine>,
    invocations: Arc<Invocations>,
}

impl Host {
    /// Makes a host with room for `instances` component instances at once, and its compiled code in the folder `cache`. What it
    /// reports of its components is read from `metrics`, the recorder of this process.
    ///
    /// Components are compiled by another process of the same program, which is called with
    /// [`COMPILE_COMPONENT`](crate::COMPILE_COMPONENT) and has to call [`compile_component`](crate::compile_component) then.
    ///
    /// # Errors
    /// When the engine cannot be set up or the folder cannot be written.
    pub fn new(
        capabilities: Capabilities,
        instances: u32,
        cache: &Path,
        metrics: telemetry::Metrics,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            engine: Arc::new(Engine::new(capabilities, instances, cache)?),
            invocations: Arc::new(Invocations::new(instances, metrics)),
        })
    }

    /// Waits until components are done with every request, also with what they do after their answers, or for this long.
    /// Returns whether they are.
    pub async fn finish(&self, within: Duration) -> bool {
        self.invocations.finish(within).await
    }

    /// Whether component instances come from a pool of reserved memory.
    #[must_use]
    pub fn pooling(&self) -> bool {
        self.engine.pooling()
    }

    /// Loads every component of the manifest that a trigger names, unless it can be taken over.
    ///
    /// # Errors
    /// When a source cannot be read, composed, compiled or linked, when it lacks a grant, or when routes clash; or when it is
    /// `abandoned` meanwhile.
    pub fn load(
        &self,
        manifest: &Manifest,
        reuse: Reuse<'_>,
        abandoned: &CancellationToken,
    ) -> anyhow::Result<Application> {
        let mut components = BTreeMap::new();
        for id in triggers::components(manifest) {
            let loaded = match reuse.certain(manifest, id) {
                Some(loaded) => loaded.clone(),
                None => self.component(manifest, id, reuse.possible(id), abandoned)?,
            };
            components.insert(id.to_owned(), loaded);
        }
        let handlers = components
            .iter()
            .map(|(id, loaded)| (id.as_str(), loaded.handlers.clone()))
            .collect();
        Ok(Application {
            name: manifest.application.name.clone(),
            tables: Tables::new(manifest, &handlers)?,
            components,
        })
    }

    /// A component, made anew unless the `present` one was made of the same.
    fn component(
        &self,
        manifest: &Manifest,
        id: &str,
        present: Option<&Loaded>,
        abandoned: &CancellationToken,
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
        if let Some(present) = present.filter(|present| *present.origin == origin) {
            let handlers = Handlers::new(manifest, &present.component, Some(&present.handlers))?;
            return Ok(Loaded {
                handlers,
                ..present.clone()
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
            abandoned,
        )?;
        let component = Arc::new(component);
        let handlers = Handlers::new(manifest, &component, None)?;
        component.keep(code);
        Ok(Loaded {
            component,
            handlers,
            origin: Arc::new(origin),
        })
    }
}
