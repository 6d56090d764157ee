//! Compiled code on disk.
//!
//! An entry is named by the digest of the component's bytes and the engine's compatibility hash, and is loaded from
//! this folder only: compiled code is trusted like the host's own, so the folder is readable and writable by its owner
//! alone.

use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wasmtime::component::Component;

use crate::state;

pub(super) struct CodeCache {
    folder: PathBuf,
    engine: wasmtime::Engine,
    compatibility: u64,
}

impl CodeCache {
    pub(super) fn open(folder: &Path, engine: &wasmtime::Engine) -> anyhow::Result<Self> {
        state::private_folder(folder, "the code cache")?;
        let mut hasher = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self {
            folder: folder.to_path_buf(),
            engine: engine.clone(),
            compatibility: hasher.finish(),
        })
    }

    /// The component of these bytes: from the cache, or compiled and put there.
    pub(super) fn component(&self, wasm: &[u8]) -> anyhow::Result<Component> {
        let digest = state::sha256(wasm);
        let entry = self
            .folder
            .join(format!("{digest}-{:016x}.cwasm", self.compatibility));
        if entry.exists() {
            // SAFETY: the file was written by `serialize` below; nobody else can write to the folder.
            match unsafe { Component::deserialize_file(&self.engine, &entry) } {
                Ok(component) => {
                    mark_used(&entry);
                    return Ok(component);
                }
                Err(error) => {
                    tracing::warn!(%error, entry = %entry.display(), "compiling again: unusable cache entry")
                }
            }
        }
        let started = std::time::Instant::now();
        let component = Component::new(&self.engine, wasm).map_err(anyhow::Error::from)?;
        tracing::info!(
            digest = &digest[..12],
            seconds = started.elapsed().as_secs_f64(),
            "compiled a component"
        );
        self.store(&entry, &component);
        Ok(component)
    }

    /// Writes an entry. A full disk costs the next start a compilation, nothing more, so it is only logged.
    fn store(&self, entry: &Path, component: &Component) {
        let written = component
            .serialize()
            .map_err(anyhow::Error::from)
            .and_then(|code| state::write_durably(entry, &code));
        // Where nothing is added, nothing grows.
        prune(&self.folder);
        if let Err(error) = written {
            tracing::warn!(error = format!("{error:#}"), entry = %entry.display(), "cannot write to the code cache");
        }
    }
}

/// An entry that was not used for so long is of a component, or of a version of the host, that is gone.
const KEPT_UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Notes that an entry was used. If that fails, it may have to be compiled again in a month.
fn mark_used(entry: &Path) {
    let marked = std::fs::File::options()
        .append(true)
        .open(entry)
        .and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = marked {
        tracing::debug!(%error, entry = %entry.display(), "cannot note the use of a cache entry");
    }
}

/// Removes what was not used for long. What cannot be removed costs only space.
fn prune(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let unused = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| modified.elapsed().ok());
        if unused.is_some_and(|unused| unused > KEPT_UNUSED)
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(%error, entry = %entry.path().display(), "cannot remove an old cache entry");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::{KEPT_UNUSED, mark_used, prune};

    #[test]
    fn what_was_not_used_for_long_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let [old, used, new] = ["old", "used", "new"].map(|name| folder.path().join(name));
        for path in [&old, &used, &new] {
            std::fs::write(path, "code").unwrap();
        }
        for path in [&old, &used] {
            let file = std::fs::File::options().append(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - KEPT_UNUSED * 2)
                .unwrap();
        }
        mark_used(&used);
        prune(folder.path());
        assert_eq!(
            [old.exists(), used.exists(), new.exists()],
            [false, true, true]
        );
    }
}
