//! The trait of triggers.

use std::collections::BTreeMap;
use std::sync::Arc;

use manifest::{Manifest, Section};
use tokio_util::sync::CancellationToken;

use crate::engine::{Component, Outline};
use crate::role::Role;
use crate::webhooks::Webhooks;

/// Where events come from, apart from servers.
pub(crate) struct Sources {
    /// Which of them this host takes.
    pub(crate) role: Role,
    /// The connection to NATS, if there is one.
    pub(crate) queue: Option<queue::Connection>,
    /// Jobs in NATS, if there is a connection.
    pub(crate) jobs: Option<Arc<queue::jobs::Jobs>>,
    /// What signs the callbacks of jobs, if anything does.
    pub(crate) webhooks: Option<Arc<Webhooks>>,
}

/// Something that calls components.
pub(crate) trait Trigger {
    /// Its name in the manifest, `[[trigger.NAME]]`.
    const KIND: &'static str;
    /// A component that is ready to be called.
    type Handler: Send + Sync;
    /// Leads from events to components.
    type Table: Send + Sync;

    /// Returns its section of the manifest.
    fn section() -> Section;

    /// Returns the ids of the components that its section names.
    fn components(manifest: &Manifest) -> Vec<&str> {
        let triggers = manifest.triggers_of(Self::KIND);
        triggers.map(|trigger| trigger.component.as_str()).collect()
    }

    /// Checks by name that a component exports what the trigger calls, before it is compiled.
    fn check(id: &str, outline: &Outline) -> anyhow::Result<()>;

    /// Creates the handler of a component.
    ///
    /// # Errors
    /// When it does not export what the trigger calls.
    fn handler(component: &Arc<Component>) -> anyhow::Result<Self::Handler>;

    /// Returns the interface through which a component is called.
    fn interface(handler: &Self::Handler) -> String;

    /// Creates the table of the components that the manifest names, each of which has a handler.
    ///
    /// # Errors
    /// When two entries of the manifest contradict each other.
    fn table(
        manifest: &Manifest,
        handlers: &BTreeMap<&str, Arc<Self::Handler>>,
        sources: &Sources,
    ) -> anyhow::Result<Self::Table>;

    /// Starts calling components, for triggers whose events do not come from a server that looks up the table. The table replaces
    /// `previous`. Events that arrive after `stop` is cancelled are for another host, or for the next application.
    fn start(
        _table: &Self::Table,
        _previous: Option<&Self::Table>,
        _sources: &Sources,
        _stop: &CancellationToken,
    ) {
    }

    /// Describes the events that lead to a component, for people.
    fn describe(table: &Self::Table, id: &str) -> Vec<String>;
}
