//! Compiled code on disk.
//!
//! An entry is named by the digest of the component's bytes and the engine's compatibility hash, and is loaded from
//! this folder only: compiled code is trusted like the host's own, so the folder is readable and writable by its owner
//! alone.

use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

pub(super) struct CodeCache {
    folder: PathBuf,
    engine: wasmtime::Engine,
    compatibility: u64,
}

impl CodeCache {
    pub(super) fn open(folder: &Path, engine: &wasmtime::Engine) -> anyhow::Result<Self> {
        use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
        let denied = || {
            format!(
                "cannot prepare the code cache {}; choose another --state-dir",
                folder.display()
            )
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(denied)?;
        let owner = std::fs::metadata(folder).with_context(denied)?.uid();
        anyhow::ensure!(
            owner == rustix::process::geteuid().as_raw(),
            "the code cache {} belongs to another user, who could put code into it; choose another --state-dir",
            folder.display()
        );
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
            .with_context(denied)?;
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
        let digest: String = Sha256::digest(wasm)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let entry = self
            .folder
            .join(format!("{digest}-{:016x}.cwasm", self.compatibility));
        if entry.exists() {
            // SAFETY: the file was written by `serialize` below; nobody else can write to the folder.
            match unsafe { Component::deserialize_file(&self.engine, &entry) } {
                Ok(component) => return Ok(component),
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
        let temporary = entry.with_extension(format!("{}.tmp", std::process::id()));
        let written = component
            .serialize()
            .map_err(anyhow::Error::from)
            .and_then(|code| Ok(write_and_flush(&temporary, &code)?))
            .and_then(|()| Ok(std::fs::rename(&temporary, entry)?));
        if let Err(error) = written {
            tracing::warn!(%error, entry = %entry.display(), "cannot write to the code cache");
            let _ = std::fs::remove_file(&temporary);
        }
    }
}

/// Half an entry must never be taken for a whole one, not even after a power cut.
fn write_and_flush(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
