//! Request and response types of the admin interface, shared by its server and its clients.

use serde::{Deserialize, Serialize};

use crate::deployment::Revision;
use crate::invocation::Snapshot;

/// Form part with the component's manifest: JSON, or TOML with the type `application/toml`.
pub const MANIFEST: &str = "manifest";
/// Form part with the component's bytes.
pub const COMPONENT: &str = "component";

/// Response to `GET /v1/components`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Components {
    /// All components, by id.
    pub components: Vec<Summary>,
}

/// A component in a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub id: String,
    /// Whether it could be loaded. A deployed component that cannot be loaded at the start is tried again at every reload.
    pub loaded: bool,
    /// Whether it was deployed; otherwise it is from the manifest.
    pub deployed: bool,
    /// The revision that is served, if it was deployed.
    pub revision: Option<u32>,
    /// The routes that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// The interface through which its triggers call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
    /// Its metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Snapshot>,
}

/// Response to `GET /v1/components/ID`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Details {
    /// Its entry in the list.
    #[serde(flatten)]
    pub summary: Summary,
    /// Its revisions, oldest first, if it was deployed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<Revision>,
}

/// Response to a deployment or a rollback.
#[derive(Debug, Serialize, Deserialize)]
pub struct Serving {
    /// The component's id.
    pub id: String,
    /// The revision that is served now.
    pub revision: u32,
}

/// Response to `DELETE /v1/components/ID`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Removed {
    /// The component's id.
    pub id: String,
    /// Always true.
    pub removed: bool,
}
