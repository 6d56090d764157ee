//! Compiled code on disk.
//!
//! An entry is named by the digest of the component's bytes and the engine's compatibility hash, and is loaded from
//! this folder only: compiled code is trusted like the host's own, so the folder is readable and writable by its owner
//! alone. An entry ends with the digest of what comes before: damaged code would end the host, or do anything else.

use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

use crate::state;

/// Bytes of compiled code that are kept.
pub const MAX_CODE_CACHE: u64 = 4 << 30;

/// The form of an entry; another one is not looked at.
const FORM: u32 = 2;

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
        FORM.hash(&mut hasher);
        Ok(Self {
            folder: folder.to_path_buf(),
            engine: engine.clone(),
            compatibility: hasher.finish(),
        })
    }

    /// The component of these bytes, from the cache or compiled; and whether it was in the cache.
    pub(super) fn component(&self, wasm: &[u8]) -> anyhow::Result<(Component, bool)> {
        let entry = self.entry(wasm);
        if entry.exists() {
            match self.load(&entry) {
                Ok(component) => {
                    state::mark_used(&entry);
                    return Ok((component, true));
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), entry = %entry.display(), "compiling again: unusable cache entry");
                }
            }
        }
        let started = std::time::Instant::now();
        let component = Component::new(&self.engine, wasm).map_err(anyhow::Error::from)?;
        tracing::info!(
            digest = &state::sha256(wasm)[..12],
            seconds = started.elapsed().as_secs_f64(),
            "compiled a component"
        );
        Ok((component, false))
    }

    fn entry(&self, wasm: &[u8]) -> PathBuf {
        let (digest, compatibility) = (state::sha256(wasm), self.compatibility);
        self.folder
            .join(format!("{digest}-{compatibility:016x}.cwasm"))
    }

    fn load(&self, entry: &Path) -> anyhow::Result<Component> {
        let whole = std::fs::read(entry)?;
        let code = whole
            .split_last_chunk::<32>()
            .and_then(|(code, digest)| (Sha256::digest(code)[..] == *digest).then_some(code))
            .context("it is not what was written")?;
        // SAFETY: this is what `serialize` made below; nobody else can write to the folder.
        let component = unsafe { Component::deserialize(&self.engine, code) };
        component.map_err(anyhow::Error::from)
    }

    /// Puts a component into the cache. A full disk costs the next start a compilation, nothing more, so it is only logged.
    pub(super) fn store(&self, wasm: &[u8], component: &Component) {
        let entry = self.entry(wasm);
        let written = component
            .serialize()
            .map_err(anyhow::Error::from)
            .and_then(|mut code| {
                let digest = Sha256::digest(&code);
                code.extend_from_slice(&digest);
                state::write_durably(&entry, &code)
            });
        if let Err(error) = written {
            tracing::warn!(error = format!("{error:#}"), entry = %entry.display(), "cannot write to the code cache");
        }
        state::prune(&self.folder, MAX_CODE_CACHE, SystemTime::now());
    }
}

#[cfg(test)]
mod tests {
    use super::CodeCache;

    #[test]
    fn damaged_code_is_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("code");
        let engine = wasmtime::Engine::default();
        let cache = CodeCache::open(&folder, &engine).unwrap();
        let empty_component = b"\0asm\x0d\0\x01\0";
        let make = || {
            let (component, cached) = cache.component(empty_component).unwrap();
            assert!(!cached);
            cache.store(empty_component, &component);
        };
        make();
        let entry = std::fs::read_dir(&folder).unwrap().next().unwrap();
        let entry = entry.unwrap().path();
        let whole = std::fs::read(&entry).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&entry, damaged).unwrap();
            assert!(cache.load(&entry).is_err(), "{at}");
            make();
            assert!(cache.component(empty_component).unwrap().1);
        }
        std::fs::write(&entry, &whole[..20]).unwrap();
        assert!(cache.load(&entry).is_err());
    }
}
