//! The on-disk cache of compiled code.
//!
//! An entry is named by the digest of the component's bytes and the engine's compatibility hash, and is loaded from this folder
//! only: compiled code is trusted like the host's own, so only the owner may read and write the folder. An entry ends with the
//! digest of its content: damaged code could crash the host, or do anything else.

use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use wasmtime::component::Component;

use super::compile::compile;

/// Size limit of the cache, in bytes.
pub const MAX_CODE_CACHE: u64 = 4 << 30;

/// Version of the format of entries; it is part of their names.
const FORMAT_VERSION: u32 = 2;

pub(super) struct CodeCache {
    folder: PathBuf,
    engine: wasmtime::Engine,
    compatibility: u64,
}

/// A component; if it is not in the cache yet, also its code and the path of its entry.
pub(super) struct Compiled {
    pub(super) component: Component,
    new: Option<(PathBuf, Vec<u8>)>,
}

impl CodeCache {
    pub(super) fn open(folder: &Path, engine: &wasmtime::Engine) -> anyhow::Result<Self> {
        state::private_folder(folder, "the code cache")?;
        let mut hasher = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        FORMAT_VERSION.hash(&mut hasher);
        Ok(Self {
            folder: folder.to_path_buf(),
            engine: engine.clone(),
            compatibility: hasher.finish(),
        })
    }

    /// Returns the component with these bytes, from the cache or compiled, unless `cancel` is cancelled.
    pub(super) fn component(
        &self,
        wasm: &[u8],
        cancel: &CancellationToken,
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
                    tracing::warn!(error = format!("{error:#}"), entry = %entry.display(), "unusable cache entry; compiling again");
                }
            }
        }
        let started = std::time::Instant::now();
        let functions = self.folder.join("functions");
        let code = compile(wasm, &functions, cancel)?;
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

    /// Returns the path of the entry for the component with this digest.
    fn entry(&self, digest: &str) -> PathBuf {
        self.folder
            .join(format!("{digest}-{:016x}.cwasm", self.compatibility))
    }

    fn load(&self, entry: &Path) -> anyhow::Result<Component> {
        let sealed = std::fs::read(entry)?;
        self.deserialize(state::unsealed(&sealed).context("the entry is damaged")?)
    }

    fn deserialize(&self, code: &[u8]) -> anyhow::Result<Component> {
        // SAFETY: the code was written by the compiler, through a pipe or to the folder, which nobody else can write to.
        let component = unsafe { Component::deserialize(&self.engine, code) };
        component.map_err(anyhow::Error::from)
    }

    /// Adds a component to the cache if it is not there yet. Failures, such as a full disk, only cost another compilation at the
    /// next start, so they are only logged.
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
