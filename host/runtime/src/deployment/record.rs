//! The record of what is deployed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Revisions kept per component. Older ones are removed, with their bytes.
pub const MAX_REVISIONS: usize = 10;

/// Version of the record's format on disk.
pub(super) const VERSION: u32 = 2;

/// Everything that is deployed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// By component id.
    pub components: BTreeMap<String, Deployed>,
}

/// One deployed component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployed {
    /// Number of the revision that is served.
    pub current: u32,
    /// Revisions that can be served, oldest first; never empty.
    pub revisions: Vec<Revision>,
}

/// One revision of a component: its bytes and the settings deployed with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revision {
    /// Starts at 1 and is never reused.
    pub revision: u32,
    /// SHA-256 of the bytes, in hexadecimal.
    pub digest: String,
    /// Time of deployment, in seconds since 1970.
    pub deployed: u64,
    /// What calls it and what it may use: JSON in the form of a manifest; see [`manifest::Fragment`].
    pub manifest: Value,
    /// A path below one of its routes that must answer with a status below 500 before the revision is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
}

impl Deployed {
    /// Returns the revision that is served.
    #[must_use]
    pub fn serving(&self) -> Option<&Revision> {
        self.find(self.current)
    }

    /// Returns the revision with this number.
    #[must_use]
    pub fn find(&self, revision: u32) -> Option<&Revision> {
        self.revisions.iter().find(|r| r.revision == revision)
    }

    /// Returns the latest revision before the one that is served.
    #[must_use]
    pub fn previous(&self) -> Option<&Revision> {
        self.revisions
            .iter()
            .rev()
            .find(|r| r.revision < self.current)
    }

    /// Adds a revision as the one that is served, and removes the oldest ones beyond [`MAX_REVISIONS`].
    pub(super) fn add(
        &mut self,
        digest: String,
        deployed: u64,
        manifest: Value,
        health: Option<String>,
    ) -> u32 {
        let revision = self.revisions.iter().map(|r| r.revision).max().unwrap_or(0) + 1;
        self.revisions.push(Revision {
            revision,
            digest,
            deployed,
            manifest,
            health,
        });
        self.current = revision;
        let excess = self.revisions.len().saturating_sub(MAX_REVISIONS);
        self.revisions.drain(..excess);
        revision
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            version: VERSION,
            components: BTreeMap::new(),
        }
    }
}
