//! An application: a manifest whose components are composed, compiled and ready. It never changes; to change what is
//! served, build another one aside and swap it in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::capabilities::{Capabilities, selected};
use crate::engine::body::{AnswerBody, RequestBody};
use crate::engine::component::{Component, Handler};
use crate::engine::figures::{Figures, Line};
use crate::engine::{Engine, Part, compose};
use crate::error::Failure;
use crate::http::{Client, Router, set_spin_headers};
use crate::manifest::{self, Dependency, Digest, Implementation, Manifest, Source};
use crate::sources::MAX_COMPONENT;
use crate::timer::SharedTimer;

/// The host: the engine, and what it lends to components.
pub struct Host {
    engine: Arc<Engine>,
}

impl Host {
    /// Makes a host with room for `instances` component instances at once, and its compiled code in the folder `cache`.
    ///
    /// Components are compiled by another process of the same program, which is called with
    /// [`COMPILE_COMPONENT`](crate::COMPILE_COMPONENT) and has to call [`compile_component`](crate::compile_component) then.
    ///
    /// # Errors
    /// When the engine cannot be set up or the folder cannot be written.
    pub fn new(capabilities: Capabilities, instances: u32, cache: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            engine: Arc::new(Engine::new(capabilities, instances, cache)?),
        })
    }

    /// Waits until components are done with every request, also with what they do after their answers, or for this long.
    /// Answers whether they are.
    pub async fn finish(&self, within: Duration) -> bool {
        self.engine.finish(within).await
    }

    /// Whether component instances come from a pool of reserved memory.
    #[must_use]
    pub fn pooling(&self) -> bool {
        self.engine.pooling()
    }

    /// Loads every component of the manifest that a trigger names.
    ///
    /// Components of the `present` application that have not changed are taken over as they are: their limits go on to
    /// count the requests under way.
    ///
    /// # Errors
    /// When a source cannot be read, composed, compiled or linked, when it lacks a grant, or when routes clash; or when it is
    /// `abandoned` meanwhile.
    pub fn load(
        &self,
        manifest: &Manifest,
        present: Present<'_>,
        abandoned: &CancellationToken,
    ) -> anyhow::Result<Application> {
        let ids: BTreeSet<&str> = manifest
            .http
            .iter()
            .map(|trigger| trigger.component.get_ref().as_str())
            .collect();
        let mut components = BTreeMap::new();
        for id in ids {
            let known = match present {
                Present::Nothing => None,
                Present::AllBut(_, changed) if changed == id => None,
                Present::AllBut(application, _) | Present::WhatIsEqual(application) => {
                    application.components.get(id)
                }
            };
            let loaded = match (known, present) {
                (Some(known), Present::AllBut(_, changed)) if !manifest.depends(id, changed) => {
                    known.clone()
                }
                _ => self.component(manifest, id, known, abandoned)?,
            };
            components.insert(id.to_owned(), loaded);
        }
        let routes: Vec<(String, Arc<Component>)> = manifest
            .http
            .iter()
            .map(|trigger| {
                (
                    trigger.route.get_ref().clone(),
                    Arc::clone(&components[trigger.component.get_ref().as_str()].component),
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

    /// A component, made anew unless the `known` one was made of the same.
    fn component(
        &self,
        manifest: &Manifest,
        id: &str,
        known: Option<&Loaded>,
        abandoned: &CancellationToken,
    ) -> anyhow::Result<Loaded> {
        let wasm = composed(manifest, id, &mut BTreeMap::new())?;
        let grants = self.engine.grants(manifest, id)?;
        let origin = Origin {
            entry: manifest.components[id].clone(),
            variables: manifest.variables.clone(),
            wasm: Digest::of(&wasm),
            files: grants.files().map(Path::to_path_buf),
        };
        if let Some(known) = known.filter(|known| *known.origin == origin) {
            return Ok(known.clone());
        }
        let component = Component::prepare(&self.engine, manifest, id, grants, &wasm, abandoned)?;
        Ok(Loaded {
            component: Arc::new(component),
            origin: Arc::new(origin),
        })
    }
}

/// What is being served while an application is loaded, and what of it can be taken over.
#[derive(Clone, Copy)]
pub enum Present<'a> {
    /// Nothing.
    Nothing,
    /// Every component but the one of this id, and those composed with it if that makes them others.
    AllBut(&'a Application, &'a str),
    /// Each component that is made of the same bytes, files, variables and manifest entry.
    WhatIsEqual(&'a Application),
}

/// A component of an application, and what it was made of.
#[derive(Clone)]
struct Loaded {
    component: Arc<Component>,
    origin: Arc<Origin>,
}

/// All that a component is made of.
#[derive(PartialEq)]
struct Origin {
    entry: manifest::Component,
    variables: BTreeMap<String, manifest::Variable>,
    /// Composed with its dependencies.
    wasm: Digest,
    files: Option<PathBuf>,
}

/// The files of this machine that an application is made of, beside its manifest. Those that cannot be found are left
/// out: loading says what is wrong with them.
#[must_use]
pub fn files_of(manifest: &Manifest) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for component in manifest.components.values() {
        if let Source::Path(path) = component.source.get_ref() {
            files.push(manifest.folder.join(path));
        }
        let paths = component.dependencies.values().filter_map(|dependency| {
            match &dependency.implementation {
                Implementation::Path(path) => Some(path),
                Implementation::Component(_) => None,
            }
        });
        files.extend(paths.map(|path| manifest.folder.join(path)));
        files.extend(selected(manifest, component).unwrap_or_default());
    }
    files
}

/// The bytes of a component, composed with what it depends on. Those `known` already are not composed again.
fn composed(
    manifest: &Manifest,
    id: &str,
    known: &mut BTreeMap<String, Vec<u8>>,
) -> anyhow::Result<Vec<u8>> {
    if let Some(wasm) = known.get(id) {
        return Ok(wasm.clone());
    }
    let entry = &manifest.components[id];
    let Source::Path(path) = entry.source.get_ref() else {
        anyhow::bail!("component {id}: {} was not fetched", entry.source.get_ref());
    };
    let wasm = read(manifest, path, id)?;
    let mut whole = wasm.len() as u64;
    // One instance of a dependency answers all the imports that name it.
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    for (import, dependency) in &entry.dependencies {
        let name = dependency_name(dependency);
        let inherits = dependency.inherit_configuration || entry.dependencies_inherit_configuration;
        let part = match parts.entry(name.clone()) {
            std::collections::btree_map::Entry::Occupied(part) => part.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let wasm = match &dependency.implementation {
                    Implementation::Component(other) => composed(manifest, other.get_ref(), known)?,
                    Implementation::Path(path) => read(manifest, path, id)?,
                };
                whole += wasm.len() as u64;
                anyhow::ensure!(
                    whole <= MAX_COMPONENT,
                    "component {id} has more than {} MiB with its dependencies, and theirs; give it fewer of them",
                    MAX_COMPONENT >> 20
                );
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
    let wasm = compose(id, wasm, parts.into_values().collect(), |import| {
        is_granted(entry, import)
    })?;
    known.insert(id.to_owned(), wasm.clone());
    Ok(wasm)
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
    match &dependency.implementation {
        Implementation::Component(other) => other.get_ref().clone(),
        Implementation::Path(path) => path.display().to_string(),
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
    check_component(&wasm).with_context(|| format!("component {id}: {}", path.display()))?;
    Ok(wasm)
}

/// That bytes begin like a component.
pub(crate) fn check_component(wasm: &[u8]) -> anyhow::Result<()> {
    // The preamble of a component differs from that of a core module in its fifth byte on: layer 1 instead of 0.
    anyhow::ensure!(
        wasm.get(..8) != Some(b"\0asm\x01\0\0\0"),
        "it is a core WebAssembly module, not a component; build it for the target wasm32-wasip2, or wrap it with `wasm-tools component new`"
    );
    anyhow::ensure!(wasm.get(..4) == Some(b"\0asm"), "it is not WebAssembly");
    Ok(())
}

/// A loaded application.
pub struct Application {
    name: String,
    routes: Vec<(String, String)>,
    router: Router<Arc<Component>>,
    components: BTreeMap<String, Loaded>,
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

    /// A report on each component, by id.
    #[must_use]
    pub fn report(&self) -> Vec<ComponentReport> {
        let report = |(id, Loaded { component, .. }): (&String, &Loaded)| ComponentReport {
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
            .map(|loaded| loaded.component.settings.observed.lines())
    }

    /// The ids of components that are not in `earlier`, or have been made anew since.
    pub(crate) fn changed_since(&self, earlier: &Application) -> Vec<String> {
        let same = |id: &String, loaded: &Loaded| {
            let before = earlier.components.get(id);
            before.is_some_and(|before| Arc::ptr_eq(&before.component, &loaded.component))
        };
        self.components
            .iter()
            .filter(|(id, loaded)| !same(id, loaded))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// The id of the component that a path leads to.
    pub(crate) fn owner(&self, path: &str) -> Option<&str> {
        self.router
            .find(path)
            .map(|found| &*found.value.settings.id)
    }

    /// Makes an instance of each component and drops it.
    ///
    /// # Errors
    /// The first component that cannot be instantiated, and why.
    pub async fn instantiate_all(&self) -> anyhow::Result<()> {
        self.instantiate_each(self.components.keys()).await
    }

    /// As [`instantiate_all`](Self::instantiate_all), of some.
    pub(crate) async fn instantiate_each(
        &self,
        ids: impl IntoIterator<Item = &String>,
    ) -> anyhow::Result<()> {
        for id in ids {
            self.instantiate(id).await?;
        }
        Ok(())
    }

    /// Makes an instance of a component and drops it: what its own initialization does wrong shows here.
    async fn instantiate(&self, id: &str) -> anyhow::Result<()> {
        let made = match self.components.get(id) {
            Some(loaded) => loaded.component.instantiate().await,
            None => Err(anyhow::anyhow!("no trigger names it")),
        };
        made.with_context(|| format!("component {id} cannot be instantiated"))
    }

    /// The component that a request's path leads to; the request is then told how it was routed.
    pub(crate) fn route(
        &self,
        request: &mut http::request::Parts,
        client: Option<&Client>,
    ) -> Option<&Arc<Component>> {
        let http::request::Parts { headers, uri, .. } = request;
        let found = self.router.find(uri.path())?;
        set_spin_headers(headers, uri, found.route, &found.captures, client);
        Some(found.value)
    }

    /// Hands a request to the component its path leads to, without a network in between.
    ///
    /// # Errors
    /// [`Failure`], as a client would see it.
    pub async fn call<B>(
        &self,
        request: http::Request<B>,
    ) -> Result<http::Response<AnswerBody>, Failure>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: std::fmt::Display,
    {
        let (mut parts, body) = request.into_parts();
        let Some(component) = self.route(&mut parts, None) else {
            return Err(Failure::new(
                crate::error::Code::NotFound,
                format!("no route matches {}", parts.uri.path()),
            ));
        };
        let request = http::Request::from_parts(parts, RequestBody::new(body));
        let timer = SharedTimer::default();
        component
            .handle(uuid::Uuid::now_v7(), None, &timer, request)
            .await
    }
}
