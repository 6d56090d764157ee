//! The application that is served, and changes to it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use http_body_util::Empty;
use manifest::{Fragment, Manifest, Source, invalid_id};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::folder::Folder;
use super::record::{Deployed, Record};
use super::space;
use crate::application::{Application, Host, Reuse};
use crate::format::format;
use crate::triggers::http::HasRoutes as _;

/// The application that is served, and the operations that change it.
pub struct Deployments {
    host: Arc<Host>,
    folder: Folder,
    /// The manifest `spin.toml`, without deployed components. The lock also guards changes to the application, the record and
    /// what is served.
    manifest: Mutex<Manifest>,
    /// Held while an application is loaded.
    loading: Arc<std::sync::Mutex<()>>,
    /// What is deployed. Can be read while a change is in progress.
    record: ArcSwap<Record>,
    /// The deployed components that could be loaded. Those that could not do not block changes to these.
    served: ArcSwap<BTreeSet<String>>,
    application: Arc<ArcSwap<Application>>,
}

/// Why a change failed. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The component or its settings are at fault; the text says what to change.
    #[error("{0}")]
    Refused(String),
    /// The component or the revision does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The host failed.
    #[error("{0}")]
    Failed(String),
}

impl Deployments {
    /// Loads the manifest, and earlier deployments from the folder `state`.
    ///
    /// A deployed component that can no longer be loaded, because the manifest or the host's models have changed, is skipped with
    /// an error in the log; it stays deployed, and can be rolled back or replaced.
    ///
    /// # Errors
    /// When the manifest cannot be loaded, or the folder cannot be read.
    pub fn open(host: Host, manifest: Manifest, state: &Path) -> anyhow::Result<Self> {
        let (folder, record) = Folder::open(state)?;
        folder.remove_unused(&record);
        let cancel = CancellationToken::new();
        let mut application = host.load(&manifest, Reuse::Nothing, &cancel)?;
        let mut served = BTreeSet::new();
        add_deployed(
            &host,
            &folder,
            &record,
            &manifest,
            &mut application,
            &mut served,
            &cancel,
        );
        Ok(Self {
            host: Arc::new(host),
            folder,
            manifest: Mutex::new(manifest),
            loading: Arc::default(),
            record: ArcSwap::from_pointee(record),
            served: ArcSwap::from_pointee(served),
            application: Arc::new(ArcSwap::from_pointee(application)),
        })
    }

    /// Instantiates each component once, like `Application::instantiate_all`. A deployed component that fails is served anyway,
    /// with an error in the log: the cause may be temporary, and it can be replaced.
    ///
    /// # Errors
    /// When a component of the manifest cannot be instantiated.
    pub async fn instantiate_all(&self) -> anyhow::Result<()> {
        let _unchanged = self.manifest.lock().await;
        let application = self.application.load_full();
        let ids = application.report().into_iter().map(|report| report.id);
        let deployed = self.served.load_full();
        instantiate(&application, ids.collect(), &deployed).await
    }

    /// Starts the triggers.
    pub fn start(&self) {
        self.application.load().start(None, self.host.sources());
    }

    /// Replaces the manifest. Unchanged components are reused. Returns the ids of the others.
    ///
    /// Deployed components that could not be loaded before are tried again; if they still cannot, they are skipped again.
    ///
    /// # Errors
    /// [`DeployError::Refused`] when the manifest and the deployed components that are served cannot be loaded together.
    pub async fn reload(&self, manifest: Manifest) -> Result<Vec<String>, DeployError> {
        let mut current_manifest = self.manifest.lock().await;
        let current = self.application.load_full();
        let before = self.served.load_full();
        let (folder, record) = (self.folder.clone(), self.record.load_full());
        let merged =
            effective(&manifest, &folder, &restricted(&record, &before)).map_err(refused)?;
        let (earlier, mut served) = (Arc::clone(&current), BTreeSet::clone(&before));
        let next = manifest.clone();
        let (application, served) = self
            .load(move |host, cancel| {
                let mut application = host.load(&merged, Reuse::Unchanged(&earlier), cancel)?;
                add_deployed(
                    host,
                    &folder,
                    &record,
                    &next,
                    &mut application,
                    &mut served,
                    cancel,
                );
                Ok((application, served))
            })
            .await?;
        let changed = application.changed_since(&current);
        let added = served.difference(&before).cloned().collect();
        instantiate(&application, changed.clone(), &added)
            .await
            .map_err(refused)?;
        self.serve(application);
        self.served.store(Arc::new(served));
        *current_manifest = manifest;
        Ok(changed)
    }

    /// Records the space of the file system with the deployments.
    pub(crate) fn record_space(&self) {
        space::record(self.folder.path());
    }

    /// Returns the host that components run on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the pointer to the application that is served.
    #[must_use]
    pub fn application(&self) -> &Arc<ArcSwap<Application>> {
        &self.application
    }

    /// Returns the record of what is deployed.
    #[must_use]
    pub fn record(&self) -> Arc<Record> {
        self.record.load_full()
    }

    /// Returns whether a deployed component could be loaded.
    #[must_use]
    pub fn is_served(&self, id: &str) -> bool {
        self.served.load().contains(id)
    }

    /// Adds bytes as a new revision of the component `id`, and serves it.
    ///
    /// # Errors
    /// [`DeployError::Refused`] says which import, grant, route or probe is at fault.
    pub async fn deploy(
        &self,
        id: &str,
        wasm: &[u8],
        fragment: Value,
        health: Option<String>,
    ) -> Result<u32, DeployError> {
        let manifest = self.manifest.lock().await;
        check_id(id, &manifest)?;
        Fragment::from_json(id, &fragment, &format()).map_err(DeployError::Refused)?;
        let mut next = Record::clone(&self.record.load());
        // Removes the bytes if the component is refused or the client disconnects.
        let _guard = CleanUp(self);
        let digest = self.folder.store(wasm).map_err(failed)?;
        let deployed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let revision = next
            .components
            .entry(id.to_owned())
            .or_insert_with(|| Deployed {
                current: 0,
                revisions: Vec::new(),
            })
            .add(digest, deployed, fragment, health);
        self.publish(&manifest, next, id).await?;
        Ok(revision)
    }

    /// Serves an earlier revision: the one given, or the one before the current one.
    ///
    /// # Errors
    /// [`DeployError::NotFound`], or [`DeployError::Refused`] when it can no longer be loaded.
    pub async fn rollback(&self, id: &str, revision: Option<u32>) -> Result<u32, DeployError> {
        let manifest = self.manifest.lock().await;
        let mut next = Record::clone(&self.record.load());
        let deployed = next
            .components
            .get_mut(id)
            .ok_or_else(|| not_deployed(id))?;
        let found = match revision {
            Some(revision) => deployed.find(revision),
            None => deployed.previous(),
        };
        let Some(found) = found.map(|found| found.revision) else {
            let kept: Vec<String> = deployed
                .revisions
                .iter()
                .map(|r| r.revision.to_string())
                .collect();
            return Err(DeployError::NotFound(format!(
                "component {id} has no {} revision; it has {}, and serves {}",
                revision.map_or_else(|| "earlier".to_owned(), |r| r.to_string()),
                kept.join(", "),
                deployed.current
            )));
        };
        deployed.current = found;
        verify_current(&self.folder, &next, id).map_err(refused)?;
        self.publish(&manifest, next, id).await?;
        Ok(found)
    }

    /// Removes a deployed component, with all its revisions.
    ///
    /// # Errors
    /// [`DeployError::NotFound`], or [`DeployError::Refused`] when another deployed component depends on it.
    pub async fn remove(&self, id: &str) -> Result<(), DeployError> {
        let manifest = self.manifest.lock().await;
        let mut next = Record::clone(&self.record.load());
        next.components.remove(id).ok_or_else(|| not_deployed(id))?;
        let dependent = |other: &&String| dependencies(&next, other).any(|needed| needed == id);
        if let Some(other) = next.components.keys().find(dependent) {
            return Err(DeployError::Refused(format!(
                "component {other} depends on {id}; remove or replace {other} first"
            )));
        }
        self.publish(&manifest, next, id).await
    }

    /// Builds the application of a record, then replaces both.
    async fn publish(
        &self,
        manifest: &Manifest,
        next: Record,
        changed: &str,
    ) -> Result<(), DeployError> {
        let mut served = BTreeSet::clone(&self.served.load());
        let deployed = next.components.get(changed).and_then(Deployed::serving);
        match deployed {
            Some(_) => served.insert(changed.to_owned()),
            None => served.remove(changed),
        };
        let merged =
            effective(manifest, &self.folder, &restricted(&next, &served)).map_err(refused)?;
        let current = self.application.load_full();
        let (earlier, id) = (Arc::clone(&current), changed.to_owned());
        let application = self
            .load(move |host, cancel| host.load(&merged, Reuse::Except(&earlier, &id), cancel))
            .await?;
        // The component itself, and those that are composed with it.
        application
            .instantiate_each(&application.changed_since(&current))
            .await
            .map_err(refused)?;
        if let Some(health) = deployed.and_then(|revision| revision.health.as_deref()) {
            probe(&application, changed, health).await?;
        }
        self.folder.replace(&next).map_err(failed)?;
        self.serve(application);
        self.record.store(Arc::new(next));
        self.served.store(Arc::new(served));
        Ok(())
    }

    /// Serves this application from now on. The triggers of the previous one end with it.
    fn serve(&self, application: Application) {
        let application = Arc::new(application);
        let previous = self.application.swap(Arc::clone(&application));
        application.start(Some(&previous), self.host.sources());
    }

    /// Loads an application on a blocking thread. Compilation keeps the cores busy: one load runs at a time, and it is cancelled
    /// when this future is dropped.
    async fn load<T: Send + 'static>(
        &self,
        load: impl FnOnce(&Host, &CancellationToken) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, DeployError> {
        let (host, loading) = (Arc::clone(&self.host), Arc::clone(&self.loading));
        let cancel = CancellationToken::new();
        let _cancel_on_drop = cancel.clone().drop_guard();
        let loaded = tokio::task::spawn_blocking(move || {
            // The lock guards no data, so poisoning does not matter.
            let _guard = loading.lock().unwrap_or_else(PoisonError::into_inner);
            anyhow::ensure!(!cancel.is_cancelled(), "loading was cancelled");
            load(&host, &cancel)
        });
        loaded
            .await
            .map_err(|error| DeployError::Failed(format!("loading the component failed: {error}")))?
            .map_err(refused)
    }
}

/// Removes unreferenced bytes after a change, whether it succeeded or not.
struct CleanUp<'a>(&'a Deployments);

impl Drop for CleanUp<'_> {
    fn drop(&mut self) {
        self.0.folder.remove_unused(&self.0.record.load());
    }
}

/// Adds the deployed components that are not in `served` yet to the application and to `served`. Skips those that cannot be
/// loaded, with an error in the log.
fn add_deployed(
    host: &Host,
    folder: &Folder,
    record: &Record,
    manifest: &Manifest,
    application: &mut Application,
    served: &mut BTreeSet<String>,
    cancel: &CancellationToken,
) {
    for id in by_dependency(record) {
        if !served.insert(id.clone()) {
            continue;
        }
        let next = verify_current(folder, record, &id)
            .and_then(|()| effective(manifest, folder, &restricted(record, served)))
            .and_then(|manifest| host.load(&manifest, Reuse::Except(application, &id), cancel));
        match next {
            Ok(next) => *application = next,
            Err(error) => {
                served.remove(&id);
                tracing::error!(
                    component = id,
                    error = format!("{error:#}"),
                    "a deployed component cannot be loaded"
                );
            }
        }
    }
}

/// Instantiates each component once. One of `deployed` that fails is served anyway, with an error in the log.
async fn instantiate(
    application: &Application,
    ids: Vec<String>,
    deployed: &BTreeSet<String>,
) -> anyhow::Result<()> {
    for id in ids {
        match application.instantiate_each([&id]).await {
            Err(error) if deployed.contains(&id) => {
                tracing::error!(error = format!("{error:#}"), "a deployed component fails");
            }
            result => result?,
        }
    }
    Ok(())
}

/// Verifies that the bytes of the current revision are unchanged.
fn verify_current(folder: &Folder, record: &Record, id: &str) -> anyhow::Result<()> {
    match record.components.get(id).and_then(Deployed::serving) {
        Some(revision) => folder.verify(&revision.digest),
        None => Ok(()),
    }
}

/// Returns the record with only the components of these ids.
fn restricted(record: &Record, ids: &BTreeSet<String>) -> Record {
    let mut record = record.clone();
    record.components.retain(|id, _| ids.contains(id));
    record
}

/// Longest id, in bytes.
const MAX_ID_LENGTH: usize = 64;

fn check_id(id: &str, manifest: &Manifest) -> Result<(), DeployError> {
    if manifest.components.contains_key(id) {
        return Err(DeployError::Refused(format!(
            "component {id} belongs to the manifest; change it there, or choose another id"
        )));
    }
    if let Some(reason) = invalid_id(id) {
        return Err(DeployError::Refused(format!(
            "\"{id}\" is not an id: {reason}"
        )));
    }
    if id.len() > MAX_ID_LENGTH {
        return Err(DeployError::Refused(format!(
            "\"{id}\" is too long for an id: use at most {MAX_ID_LENGTH} letters"
        )));
    }
    Ok(())
}

/// Requests the component's health path.
async fn probe(application: &Application, id: &str, path: &str) -> Result<(), DeployError> {
    if application.routes().owner(path) != Some(id) {
        return Err(DeployError::Refused(format!(
            "the health path {path} does not lead to component {id}"
        )));
    }
    let request = http::Request::get(format!("http://localhost{path}"))
        .body(Empty::new())
        .map_err(|error| DeployError::Refused(format!("{path} is not a path: {error}")))?;
    match application.routes().call(request).await {
        Ok(response) if response.status().as_u16() < 500 => Ok(()),
        Ok(response) => Err(DeployError::Refused(format!(
            "the health path {path} of component {id} answered {}",
            response.status()
        ))),
        Err(failure) => Err(DeployError::Refused(format!(
            "the health path {path} of component {id} failed: {}",
            failure.message
        ))),
    }
}

/// Returns the manifest with the deployed components added.
fn effective(manifest: &Manifest, folder: &Folder, record: &Record) -> anyhow::Result<Manifest> {
    let mut manifest = manifest.clone();
    for (id, deployed) in &record.components {
        let Some(revision) = deployed.serving() else {
            continue;
        };
        let fragment = Fragment::from_json(id, &revision.manifest, &format());
        let mut fragment = fragment.map_err(|error| anyhow::anyhow!("component {id}: {error}"))?;
        let blob = std::path::absolute(folder.blob(&revision.digest))?;
        fragment.component.source = Source::Path(blob);
        let with = manifest.with(id, fragment.component, fragment.triggers);
        manifest = with.map_err(anyhow::Error::msg)?;
    }
    manifest.check().map_err(anyhow::Error::msg)?;
    Ok(manifest)
}

/// Returns the ids of components that a deployed one depends on.
fn dependencies<'r>(record: &'r Record, id: &str) -> impl Iterator<Item = &'r str> {
    let serving = record.components.get(id).and_then(Deployed::serving);
    let entries =
        serving.and_then(|revision| revision.manifest["component"][id]["dependencies"].as_object());
    let entries = entries.into_iter().flat_map(|entries| entries.values());
    entries.filter_map(|entry| entry["component"].as_str())
}

/// Returns the ids of deployed components, each after its dependencies.
fn by_dependency(record: &Record) -> Vec<String> {
    fn visit(record: &Record, id: &str, ordered: &mut Vec<String>, seen: &mut BTreeSet<String>) {
        // A cycle is refused when the component is loaded.
        if !record.components.contains_key(id) || !seen.insert(id.to_owned()) {
            return;
        }
        for other in dependencies(record, id) {
            visit(record, other, ordered, seen);
        }
        ordered.push(id.to_owned());
    }

    let (mut ordered, mut seen) = (Vec::new(), BTreeSet::new());
    for id in record.components.keys() {
        visit(record, id, &mut ordered, &mut seen);
    }
    ordered
}

fn not_deployed(id: &str) -> DeployError {
    DeployError::NotFound(format!("no component {id} is deployed"))
}

fn refused(error: anyhow::Error) -> DeployError {
    DeployError::Refused(format!("{error:#}"))
}

fn failed(error: anyhow::Error) -> DeployError {
    DeployError::Failed(format!("{error:#}"))
}
