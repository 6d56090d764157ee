//! Compiled code on disk.
//!
//! An entry is named by the digest of the component's bytes and the engine's compatibility hash, and is loaded from
//! this folder only: compiled code is trusted like the host's own, so the folder is readable and writable by its owner
//! alone.

use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

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
                    state::mark_used(&entry);
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
        if let Err(error) = written {
            tracing::warn!(error = format!("{error:#}"), entry = %entry.display(), "cannot write to the code cache");
        }
    }
}
