//! Requests and answers of the admin interface, as its server and its clients have them.

use serde::{Deserialize, Serialize};

use crate::deployment::Revision;
use crate::invocation::Snapshot;

/// The part of a deployment that is the component's manifest: JSON, or TOML with the type `application/toml`.
pub const MANIFEST: &str = "manifest";
/// The part of a deployment that is the component's bytes.
pub const COMPONENT: &str = "component";

/// `GET /v1/components`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Components {
    /// All of them, by id.
    pub components: Vec<Summary>,
}

/// A component in a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub id: String,
    /// Whether it is served. One that was deployed may lack something after a restart.
    pub loaded: bool,
    /// Whether it was deployed. Else it is of the manifest.
    pub deployed: bool,
    /// The revision that is served, if it was deployed.
    pub revision: Option<u32>,
    /// What leads to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// What it exports to its triggers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
    /// Its metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Snapshot>,
}

/// `GET /v1/components/ID`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Details {
    /// What the list has of it.
    #[serde(flatten)]
    pub summary: Summary,
    /// What can be served, oldest first, if it was deployed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<Revision>,
}

/// The answer to a deployment, and to a rollback.
#[derive(Debug, Serialize, Deserialize)]
pub struct Serving {
    /// The component's id.
    pub id: String,
    /// The revision that is served now.
    pub revision: u32,
}

/// The answer to `DELETE /v1/components/ID`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Removed {
    /// The component's id.
    pub id: String,
    /// True.
    pub removed: bool,
}
