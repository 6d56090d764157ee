//! Compiled code on disk.
//!
//! An entry is named by the digest of the component's bytes and the engine's compatibility hash, and is loaded from
//! this folder only: compiled code is trusted like the host's own, so the folder is readable and writable by its owner
//! alone. An entry ends with the digest of what comes before: damaged code would end the host, or do anything else.

use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use wasmtime::component::Component;

use super::compile::compile;

/// Bytes of compiled code that are kept.
pub const MAX_CODE_CACHE: u64 = 4 << 30;

/// The form of an entry; another one is not looked at.
const FORM: u32 = 2;

pub(super) struct CodeCache {
    folder: PathBuf,
    engine: wasmtime::Engine,
    compatibility: u64,
}

/// A component, and its code with the entry to be, if it is not in the cache yet.
pub(super) struct Compiled {
    pub(super) component: Component,
    new: Option<(PathBuf, Vec<u8>)>,
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

    /// The component of these bytes, from the cache or compiled, unless that is abandoned.
    pub(super) fn component(
        &self,
        wasm: &[u8],
        abandoned: &CancellationToken,
    ) -> anyhow::Result<Compiled> {
        let digest = state::sha256(wasm);
        let entry = self.entry(&digest);
        if entry.exists() {
            match self.load(&entry) {
                Ok(component) => {
                    state::mark_used(&entry);
                    return Ok(Compiled {
                        component,
                        new: None,
                    });
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), entry = %entry.display(), "compiling again: unusable cache entry");
                }
            }
        }
        let started = std::time::Instant::now();
        let functions = self.folder.join("functions");
        let code = compile(wasm, &functions, abandoned)?;
        let component = self.deserialize(&code)?;
        tracing::info!(
            digest = &digest[..12],
            seconds = started.elapsed().as_secs_f64(),
            "compiled a component"
        );
        Ok(Compiled {
            component,
            new: Some((entry, code)),
        })
    }

    /// Path of the code of the component with this digest.
    fn entry(&self, digest: &str) -> PathBuf {
        self.folder
            .join(format!("{digest}-{:016x}.cwasm", self.compatibility))
    }

    fn load(&self, entry: &Path) -> anyhow::Result<Component> {
        let whole = std::fs::read(entry)?;
        self.deserialize(state::unsealed(&whole).context("it is not what was written")?)
    }

    fn deserialize(&self, code: &[u8]) -> anyhow::Result<Component> {
        // SAFETY: this is what the compiler wrote, through a pipe or to the folder, which nobody else can write to.
        let component = unsafe { Component::deserialize(&self.engine, code) };
        component.map_err(anyhow::Error::from)
    }

    /// Puts a component into the cache that is not there yet. A full disk costs the next start a compilation, nothing more, so it
    /// is only logged.
    pub(super) fn store(&self, compiled: Compiled) {
        let Some((entry, code)) = compiled.new else {
            return;
        };
        if let Err(error) = state::write_durably(&entry, &state::sealed(code)) {
            tracing::warn!(error = format!("{error:#}"), entry = %entry.display(), "cannot write to the code cache");
        }
        state::prune(&self.folder, MAX_CODE_CACHE, SystemTime::now());
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::{CodeCache, Compiled};

    #[test]
    fn damaged_code_is_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("code");
        let engine = wasmtime::Engine::default();
        let cache = CodeCache::open(&folder, &engine).unwrap();
        let empty_component = b"\0asm\x0d\0\x01\0";
        let code = engine.precompile_component(empty_component).unwrap();
        let component = cache.deserialize(&code).unwrap();
        let entry = cache.entry(&state::sha256(empty_component));
        let new = Some((entry.clone(), code));
        cache.store(Compiled { component, new });
        let cached = || cache.component(empty_component, &CancellationToken::new());
        assert!(cached().unwrap().new.is_none());
        let whole = std::fs::read(&entry).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&entry, damaged).unwrap();
            assert!(cache.load(&entry).is_err(), "{at}");
        }
        std::fs::write(&entry, &whole[..20]).unwrap();
        assert!(cache.load(&entry).is_err());
        std::fs::write(&entry, &whole).unwrap();
        assert!(cached().unwrap().new.is_none());
    }
}
