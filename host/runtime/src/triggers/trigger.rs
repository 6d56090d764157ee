//! What a trigger is.

use std::collections::BTreeMap;
use std::sync::Arc;

use manifest::{Manifest, Section};

use crate::engine::{Component, Outline};

/// Something that calls components.
pub(crate) trait Trigger {
    /// A component that is ready to be called.
    type Handler: Send + Sync;
    /// What leads from events to components.
    type Table: Send + Sync;

    /// Its part of the manifest: `[[trigger.NAME]]`.
    fn section() -> Section;

    /// The ids of the components that its part of the manifest names.
    fn components(manifest: &Manifest) -> Vec<&str>;

    /// Checks that a component exports what the trigger calls: before it is compiled, by name.
    fn check(id: &str, outline: &Outline) -> anyhow::Result<()>;

    /// Makes a component ready to be called.
    ///
    /// # Errors
    /// When it does not export what the trigger calls.
    fn handler(component: &Arc<Component>) -> anyhow::Result<Self::Handler>;

    /// The interface through which a component is called.
    fn interface(handler: &Self::Handler) -> String;

    /// What leads to the components that the manifest names, each of which has a handler.
    ///
    /// # Errors
    /// When two entries of the manifest contradict each other.
    fn table(
        manifest: &Manifest,
        handlers: &BTreeMap<&str, Arc<Self::Handler>>,
    ) -> anyhow::Result<Self::Table>;

    /// Begins to call components, where events do not come from a server that asks for the table. What this starts ends when the table is
    /// dropped.
    fn start(_: &Self::Table) {}

    /// What leads to a component, for people.
    fn describe(table: &Self::Table, id: &str) -> Vec<String>;
}
