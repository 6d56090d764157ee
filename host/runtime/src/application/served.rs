//! An application: a manifest whose components are composed, compiled and ready. It is immutable: to change what is served,
//! another one is built and swapped in.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use manifest::Limits;
use tokio::sync::broadcast;

use super::loaded::Loaded;
use crate::invocation::{Line, Snapshot};
use crate::triggers::http::{HasRoutes, Routes};
use crate::triggers::{Sources, Tables};

/// A loaded application.
pub struct Application {
    pub(super) name: String,
    pub(super) tables: Tables,
    pub(super) components: BTreeMap<String, Loaded>,
}

/// What a component is and may do, for people.
#[derive(Debug)]
pub struct ComponentReport {
    /// Its id.
    pub id: String,
    /// The interfaces that its triggers call.
    pub interfaces: Vec<String>,
    /// The routes that lead to it.
    pub routes: Vec<String>,
    /// What it may use.
    pub grants: Vec<String>,
    /// Its limits.
    pub limits: Limits,
    /// Its metrics.
    pub metrics: Snapshot,
}

impl Application {
    /// Returns the application's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts its triggers: it is served from now on, instead of `previous`.
    pub(crate) fn start(&self, previous: Option<&Self>, sources: &Sources) {
        let previous = previous.map(|previous| &previous.tables);
        self.tables.start(previous, sources);
    }

    /// Reports on each component, by id.
    #[must_use]
    pub fn report(&self) -> Vec<ComponentReport> {
        let report = |(id, loaded): (&String, &Loaded)| {
            let target = loaded.component.target();
            ComponentReport {
                id: id.clone(),
                interfaces: loaded.handlers.interfaces(),
                routes: self.tables.describe(id),
                grants: loaded.component.grants().describe(),
                limits: target.limits.clone(),
                metrics: target.metrics(),
            }
        };
        self.components.iter().map(report).collect()
    }

    /// Returns the last lines that a component printed, and a receiver of further ones.
    pub(crate) fn lines(&self, id: &str) -> Option<(Vec<Line>, broadcast::Receiver<Line>)> {
        self.components
            .get(id)
            .map(|loaded| loaded.component.target().telemetry.lines.subscribe())
    }

    /// Returns the ids of components that are not in `earlier` or have been rebuilt since.
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

    pub(super) fn loaded(&self, id: &str) -> Option<&Loaded> {
        self.components.get(id)
    }

    /// Instantiates each component and drops the instance.
    ///
    /// # Errors
    /// When a component cannot be instantiated.
    pub async fn instantiate_all(&self) -> anyhow::Result<()> {
        self.instantiate_each(self.components.keys()).await
    }

    /// Like [`instantiate_all`](Self::instantiate_all), for some components.
    pub(crate) async fn instantiate_each(
        &self,
        ids: impl IntoIterator<Item = &String>,
    ) -> anyhow::Result<()> {
        for id in ids {
            self.instantiate(id).await?;
        }
        Ok(())
    }

    /// Instantiates a component and drops the instance, so that errors in its initialization show.
    async fn instantiate(&self, id: &str) -> anyhow::Result<()> {
        let result = match self.components.get(id) {
            Some(loaded) => loaded.component.instantiate().await,
            None => Err(anyhow::anyhow!("no trigger names it")),
        };
        result.with_context(|| format!("component {id} cannot be instantiated"))
    }
}

impl HasRoutes for Application {
    fn routes(&self) -> &Routes {
        &self.tables.http
    }
}
