//! An application: a manifest whose components are composed, compiled and ready. It never changes; to change what is
//! served, build another one aside and swap it in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::broadcast;

use crate::capabilities::Capabilities;
use crate::engine::body::{AnswerBody, RequestBody};
use crate::engine::component::{Component, Handler};
use crate::engine::figures::{Figures, Line};
use crate::engine::{Engine, Part, compose};
use crate::error::Failure;
use crate::http::{Router, set_spin_headers};
use crate::manifest::{self, Dependency, Manifest};

/// The host: the engine, and what it lends to components.
pub struct Host {
    engine: Arc<Engine>,
}

impl Host {
    /// Makes a host with room for `instances` component instances at once, and its compiled code in the folder `cache`.
    ///
    /// # Errors
    /// When the engine cannot be set up or the folder cannot be written.
    pub fn new(capabilities: Capabilities, instances: u32, cache: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            engine: Arc::new(Engine::new(capabilities, instances, cache)?),
        })
    }

    /// Whether component instances come from a pool of reserved memory.
    #[must_use]
    pub fn pooling(&self) -> bool {
        self.engine.pooling()
    }

    /// Loads every component of the manifest that a trigger names.
    ///
    /// With `present`, an application and the one component that has changed since, the others are taken over as they
    /// are: their limits go on to count the requests under way.
    ///
    /// # Errors
    /// When a source cannot be read, composed, compiled or linked, when it lacks a grant, or when routes clash.
    pub fn load(
        &self,
        manifest: &Manifest,
        present: Option<(&Application, &str)>,
    ) -> anyhow::Result<Application> {
        let ids: BTreeSet<&str> = manifest
            .http
            .iter()
            .map(|trigger| trigger.component.get_ref().as_str())
            .collect();
        let mut components = BTreeMap::new();
        for id in ids {
            let kept = present
                .filter(|(_, changed)| *changed != id)
                .and_then(|(application, _)| application.components.get(id).map(Arc::clone));
            let component = match kept {
                Some(component) => component,
                None => {
                    let wasm = composed(manifest, id)?;
                    Arc::new(Component::prepare(&self.engine, manifest, id, &wasm)?)
                }
            };
            components.insert(id.to_owned(), component);
        }
        let routes: Vec<(String, Arc<Component>)> = manifest
            .http
            .iter()
            .map(|trigger| {
                (
                    trigger.route.get_ref().clone(),
                    Arc::clone(&components[trigger.component.get_ref().as_str()]),
                )
            })
            .collect();
        Ok(Application {
            name: manifest.application.name.clone(),
            routes: routes
                .iter()
                .map(|(route, component)| (route.clone(), component.settings.id.to_string()))
                .collect(),
            router: Router::new(routes)?,
            components,
        })
    }
}

/// The bytes of a component, composed with what it depends on.
fn composed(manifest: &Manifest, id: &str) -> anyhow::Result<Vec<u8>> {
    let entry = &manifest.components[id];
    let wasm = read(manifest, entry.source.get_ref(), id)?;
    // One instance of a dependency answers all the imports that name it.
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    for (import, dependency) in &entry.dependencies {
        let name = dependency_name(dependency);
        let inherits = dependency.inherit_configuration || entry.dependencies_inherit_configuration;
        let part = match parts.entry(name.clone()) {
            std::collections::btree_map::Entry::Occupied(part) => part.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let wasm = match (&dependency.component, &dependency.path) {
                    (Some(other), _) => composed(manifest, other.get_ref())?,
                    (None, Some(path)) => read(manifest, path, id)?,
                    (None, None) => anyhow::bail!(
                        "dependency \"{import}\" of component {id} names no component"
                    ),
                };
                vacant.insert(Part {
                    name,
                    wasm,
                    inherits,
                    answers: Vec::new(),
                })
            }
        };
        part.inherits &= inherits;
        part.answers
            .push((import.clone(), dependency.export.clone()));
    }
    compose(id, wasm, parts.into_values().collect(), |import| {
        is_granted(entry, import)
    })
}

/// Whether an interface gives access to something that the component is granted, and its dependencies are not by themselves.
fn is_granted(entry: &manifest::Component, import: &str) -> bool {
    let granted_at_the_call = match import.split('@').next().unwrap_or(import) {
        "wasi:http/outgoing-handler" | "wasi:http/client" => {
            !entry.allowed_outbound_hosts.is_empty()
        }
        "wasi:cli/environment" => !entry.environment.is_empty(),
        "wasi:filesystem/preopens" => !entry.files.is_empty(),
        _ => false,
    };
    granted_at_the_call || Capabilities::is_restricted(import)
}

fn dependency_name(dependency: &Dependency) -> String {
    match (&dependency.component, &dependency.path) {
        (Some(other), _) => other.get_ref().clone(),
        (None, Some(path)) => path.display().to_string(),
        (None, None) => String::new(),
    }
}

fn read(manifest: &Manifest, source: &Path, id: &str) -> anyhow::Result<Vec<u8>> {
    let path = manifest.folder.join(source);
    let wasm = std::fs::read(&path).with_context(|| {
        format!(
            "component {id}: cannot read {}; build it, or correct `source`",
            path.display()
        )
    })?;
    // The preamble of a component differs from that of a core module in its fifth byte on: layer 1 instead of 0.
    if wasm.get(..8) == Some(b"\0asm\x01\0\0\0") {
        anyhow::bail!(
            "component {id}: {} is a core WebAssembly module, not a component; build it for the target wasm32-wasip2, or wrap it with `wasm-tools component new`",
            path.display()
        );
    }
    if wasm.get(..4) != Some(b"\0asm") {
        anyhow::bail!("component {id}: {} is not WebAssembly", path.display());
    }
    Ok(wasm)
}

/// A loaded application.
pub struct Application {
    name: String,
    routes: Vec<(String, String)>,
    router: Router<Arc<Component>>,
    components: BTreeMap<String, Arc<Component>>,
}

/// What one component is and may do, for people.
#[derive(Debug)]
pub struct ComponentReport {
    /// Its id.
    pub id: String,
    /// What it exports.
    pub handler: Handler,
    /// Routes that lead to it.
    pub routes: Vec<String>,
    /// What it may use.
    pub grants: Vec<String>,
    /// What it is held to.
    pub limits: manifest::Limits,
    /// What was counted of it.
    pub figures: Figures,
}

impl Application {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its routes, as the manifest has them.
    #[must_use]
    pub fn routes(&self) -> Vec<&str> {
        self.routes
            .iter()
            .map(|(route, _)| route.as_str())
            .collect()
    }

    /// A report on each component, by id.
    #[must_use]
    pub fn report(&self) -> Vec<ComponentReport> {
        let report = |(id, component): (&String, &Arc<Component>)| ComponentReport {
            id: id.clone(),
            handler: component.handler,
            routes: self
                .routes
                .iter()
                .filter(|(_, to)| to == id)
                .map(|(route, _)| route.clone())
                .collect(),
            grants: component.settings.grants.describe(),
            limits: component.settings.limits.clone(),
            figures: component.figures(),
        };
        self.components.iter().map(report).collect()
    }

    /// The last lines that a component printed, and those to come.
    pub(crate) fn lines(&self, id: &str) -> Option<(Vec<Line>, broadcast::Receiver<Line>)> {
        self.components
            .get(id)
            .map(|component| component.settings.observed.lines())
    }

    /// The id of the component that a path leads to.
    pub(crate) fn owner(&self, path: &str) -> Option<&str> {
        self.router
            .find(path)
            .map(|(_, component)| &*component.settings.id)
    }

    /// Makes an instance of each component and drops it.
    ///
    /// # Errors
    /// The first component that cannot be instantiated, and why.
    pub async fn instantiate_all(&self) -> anyhow::Result<()> {
        for id in self.components.keys() {
            self.instantiate(id)
                .await
                .with_context(|| format!("component {id} cannot be instantiated"))?;
        }
        Ok(())
    }

    /// Makes an instance of a component and drops it: what its own initialization does wrong shows here.
    pub(crate) async fn instantiate(&self, id: &str) -> anyhow::Result<()> {
        match self.components.get(id) {
            Some(component) => component.instantiate().await,
            None => anyhow::bail!("no trigger names it"),
        }
    }

    /// The component that a request's path leads to; the request is then told how it was routed.
    pub(crate) fn route<B>(
        &self,
        request: &mut http::Request<B>,
        client: Option<SocketAddr>,
    ) -> Option<&Arc<Component>> {
        let uri = request.uri().clone();
        let (route, component) = self.router.find(uri.path())?;
        set_spin_headers(request.headers_mut(), &uri, route, client);
        Some(component)
    }

    /// Hands a request to the component its path leads to, without a network in between.
    ///
    /// # Errors
    /// [`Failure`], as a client would see it.
    pub async fn call<B>(
        &self,
        mut request: http::Request<B>,
    ) -> Result<http::Response<AnswerBody>, Failure>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: std::fmt::Display,
    {
        let Some(component) = self.route(&mut request, None) else {
            return Err(Failure::new(
                crate::error::Code::NotFound,
                format!("no route matches {}", request.uri().path()),
            ));
        };
        component
            .handle(uuid::Uuid::now_v7(), request.map(RequestBody::new))
            .await
    }
}
