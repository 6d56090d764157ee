//! The deployed components on disk: `components.json`, and each component's bytes named by their digest.
//!
//! A change is written next to the old record, flushed, and renamed over it: a `kill -9` at any moment leaves either the old
//! record or the new one. Bytes are written and flushed before a record names them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::record::{Record, VERSION};
use super::version1;

/// Parses a record of this version or an earlier one.
fn read(bytes: &[u8]) -> anyhow::Result<Record> {
    let json: Value = serde_json::from_slice(bytes)?;
    match json["version"].as_u64() {
        Some(1) => Ok(version1::upgrade(serde_json::from_value(json)?)),
        Some(2) => Ok(serde_json::from_value(json)?),
        other => anyhow::bail!(
            "its version is {}, not {VERSION}",
            other.map_or_else(|| "unknown".to_owned(), |version| version.to_string())
        ),
    }
}

/// The folder of the record and the bytes.
#[derive(Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

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
            Ok(bytes) => read(&bytes)
                .and_then(|record| {
                    for (id, deployed) in &record.components {
                        anyhow::ensure!(
                            deployed.serving().is_some(),
                            "revision {} of {id}, which is served, is missing",
                            deployed.current
                        );
                    }
                    Ok(record)
                })
                .with_context(|| {
                    format!(
                        "cannot use {}; repair it, or move {} away to start without deployed components",
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

    /// Returns the path of the bytes with this digest.
    pub(super) fn blob(&self, digest: &str) -> PathBuf {
        self.blobs().join(format!("{digest}.wasm"))
    }

    /// Stores bytes and returns their digest.
    pub(super) fn store(&self, wasm: &[u8]) -> anyhow::Result<String> {
        let digest = state::sha256(wasm);
        if self.verify(&digest).is_err() {
            state::write_durably(&self.blob(&digest), wasm)?;
        }
        Ok(digest)
    }

    /// Verifies that the bytes with this digest exist and are unchanged.
    pub(super) fn verify(&self, digest: &str) -> anyhow::Result<()> {
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

    /// Replaces the record, then removes bytes that it does not refer to.
    pub(super) fn replace(&self, record: &Record) -> anyhow::Result<()> {
        state::write_durably(&self.file(), &serde_json::to_vec_pretty(record)?)?;
        self.remove_unused(record);
        Ok(())
    }

    /// Removes bytes that the record does not refer to. Leftovers only take space, so a failure is only logged.
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
    fn a_record_without_its_current_revision_is_refused_and_nothing_is_removed() {
        let state = tempfile::tempdir().unwrap();
        let (folder, _) = Folder::open(state.path()).unwrap();
        let digest = folder.store(b"a component").unwrap();
        let component = r#"{"current": 1, "revisions": []}"#;
        let record = format!(r#"{{"version": 2, "components": {{"mine": {component}}}}}"#);
        std::fs::write(folder.file(), record).unwrap();
        let refused = Folder::open(state.path()).err().unwrap();
        let refused = format!("{refused:#}");
        let path = state.path().display();
        assert!(
            refused.contains(&format!("repair it, or move {path} away")),
            "{refused}"
        );
        assert!(refused.contains("revision 1 of mine"), "{refused}");
        folder.verify(&digest).unwrap();
    }
}
