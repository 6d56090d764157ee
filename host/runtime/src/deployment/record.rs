//! What is deployed, on disk: `components.json`, and each component's bytes under the name of their digest.
//!
//! A change is written in full beside the old record, flushed, and renamed over it: a `kill -9` at any moment leaves the
//! old record or the new one. Bytes are written and flushed before a record names them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::state;

/// Revisions kept of one component. Older ones are forgotten, with their bytes.
pub const MAX_REVISIONS: usize = 10;

/// The form of the file below.
const VERSION: u32 = 1;

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
    /// The number of the revision that is served.
    pub current: u32,
    /// What can be served, oldest first; never empty.
    pub revisions: Vec<Revision>,
}

/// One revision of a component: its bytes and all that was said with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revision {
    /// Counts from 1, and is never used again.
    pub revision: u32,
    /// SHA-256 of the bytes, in hexadecimal.
    pub digest: String,
    /// Seconds since 1970 when it was deployed.
    pub deployed: u64,
    /// What it is given.
    pub settings: RevisionSettings,
}

/// Where a deployed component is served and what it is granted: what `spin.toml` says of one of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevisionSettings {
    /// A route, as in `[[trigger.http]]`.
    pub route: String,
    /// Environment variables.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// As in `spin.toml`.
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<String>,
    /// As in `spin.toml`.
    #[serde(default)]
    pub ai_models: Vec<String>,
    /// As in `spin.toml`.
    #[serde(default)]
    pub timeseries: bool,
    /// From an import to the component of the application that answers it.
    #[serde(default)]
    pub dependencies: BTreeMap<String, String>,
    /// A path below the route that must answer with a status below 500 before the revision is served.
    #[serde(default)]
    pub health: Option<String>,
}

impl Deployed {
    /// The revision that is served.
    #[must_use]
    pub fn serving(&self) -> Option<&Revision> {
        self.find(self.current)
    }

    /// The revision of this number.
    #[must_use]
    pub fn find(&self, revision: u32) -> Option<&Revision> {
        self.revisions.iter().find(|r| r.revision == revision)
    }

    /// The latest revision before the one that is served.
    #[must_use]
    pub fn previous(&self) -> Option<&Revision> {
        self.revisions
            .iter()
            .rev()
            .find(|r| r.revision < self.current)
    }

    /// Adds a revision and serves it; forgets the oldest ones beyond the bound.
    pub(super) fn add(&mut self, digest: String, deployed: u64, settings: RevisionSettings) -> u32 {
        let revision = self.revisions.iter().map(|r| r.revision).max().unwrap_or(0) + 1;
        self.revisions.push(Revision {
            revision,
            digest,
            deployed,
            settings,
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

/// The folder that a record is kept in.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn open(path: &Path) -> anyhow::Result<(Self, Record)> {
        let folder = Self(path.to_path_buf());
        std::fs::create_dir_all(folder.blobs()).with_context(|| {
            format!(
                "cannot create {}; choose another --state-dir",
                path.display()
            )
        })?;
        let file = folder.file();
        let record = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice::<Record>(&bytes)
                .map_err(anyhow::Error::from)
                .and_then(|record| {
                    anyhow::ensure!(
                        record.version == VERSION,
                        "it is of version {}, not {VERSION}",
                        record.version
                    );
                    for (id, deployed) in &record.components {
                        anyhow::ensure!(
                            deployed.serving().is_some(),
                            "of {id}, the revision {} that is served is not there",
                            deployed.current
                        );
                    }
                    Ok(record)
                })
                .with_context(|| {
                    format!(
                        "cannot use {}; repair it, or move {} away to start without what was deployed",
                        file.display(),
                        path.display()
                    )
                })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Record::default(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        };
        Ok((folder, record))
    }

    /// Where the bytes of this digest lie.
    pub(super) fn blob(&self, digest: &str) -> PathBuf {
        self.blobs().join(format!("{digest}.wasm"))
    }

    /// Keeps bytes; answers their digest.
    pub(super) fn keep(&self, wasm: &[u8]) -> anyhow::Result<String> {
        let digest = state::sha256(wasm);
        if self.check(&digest).is_err() {
            state::write_durably(&self.blob(&digest), wasm)?;
        }
        Ok(digest)
    }

    /// That the bytes of this digest are here, as they were deployed.
    pub(super) fn check(&self, digest: &str) -> anyhow::Result<()> {
        let path = self.blob(digest);
        let wasm = std::fs::read(&path)
            .with_context(|| format!("cannot read {}; deploy it again", path.display()))?;
        anyhow::ensure!(
            state::sha256(&wasm) == digest,
            "{} was changed since it was deployed; deploy it again",
            path.display()
        );
        Ok(())
    }

    /// Puts a record in the place of the last one, then removes bytes that nothing refers to.
    pub(super) fn replace(&self, record: &Record) -> anyhow::Result<()> {
        state::write_durably(&self.file(), &serde_json::to_vec_pretty(record)?)?;
        self.remove_unused(record);
        Ok(())
    }

    /// Bytes that stay behind cost only space, so a failure is only logged.
    pub(super) fn remove_unused(&self, record: &Record) {
        let used: Vec<PathBuf> = record
            .components
            .values()
            .flat_map(|deployed| &deployed.revisions)
            .map(|revision| self.blob(&revision.digest))
            .collect();
        let unused = state::own_entries(&self.blobs())
            .into_iter()
            .map(|(_, path)| path)
            .filter(|path| !used.contains(path));
        for path in unused {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "cannot remove a component that is no longer deployed");
            }
        }
    }

    fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    fn file(&self) -> PathBuf {
        self.0.join("components.json")
    }
}

#[cfg(test)]
mod tests {
    use super::Folder;

    #[test]
    fn a_record_without_the_revision_that_is_served_is_refused_and_nothing_is_removed() {
        let state = tempfile::tempdir().unwrap();
        let (folder, _) = Folder::open(state.path()).unwrap();
        let digest = folder.keep(b"a component").unwrap();
        let component = r#"{"current": 1, "revisions": []}"#;
        let record = format!(r#"{{"version": 1, "components": {{"mine": {component}}}}}"#);
        std::fs::write(folder.file(), record).unwrap();
        let refused = Folder::open(state.path()).err().unwrap();
        let refused = format!("{refused:#}");
        let path = state.path().display();
        assert!(
            refused.contains(&format!("repair it, or move {path} away")),
            "{refused}"
        );
        assert!(refused.contains("of mine, the revision 1"), "{refused}");
        folder.check(&digest).unwrap();
    }
}
