//! Functions that were compiled before.
//!
//! A handler in JavaScript or Python carries an interpreter of thousands of functions, some of them more than once, and its next
//! revision changes few.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that are kept; the engine of JavaScript has 40 million. Beyond, all begins anew.
const MAX_BYTES: usize = 128 << 20;

#[derive(Debug, Default)]
pub(super) struct Functions {
    kept: Mutex<Kept>,
    changed: AtomicBool,
}

#[derive(Debug, Default)]
struct Kept {
    bytes: usize,
    compiled: HashMap<Vec<u8>, Vec<u8>>,
}

impl Functions {
    /// Those of a file, if it is as it was written.
    pub(super) fn read(path: &Path) -> Self {
        let mut kept = Kept::default();
        if let Ok(whole) = std::fs::read(path)
            && let Some(mut rest) = state::unsealed(&whole)
        {
            while let Some((key, after)) = split_field(rest)
                && let Some((value, after)) = split_field(after)
            {
                kept.insert(key, value.to_vec());
                rest = after;
            }
        }
        Self {
            kept: Mutex::new(kept),
            changed: AtomicBool::new(false),
        }
    }

    /// Writes them to a file, if there are new ones.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        if !self.changed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let kept = self.kept();
        let mut whole = Vec::with_capacity(kept.bytes + 16 * kept.compiled.len());
        for field in kept.compiled.iter().flat_map(|(key, value)| [key, value]) {
            whole.extend_from_slice(&(field.len() as u64).to_le_bytes());
            whole.extend_from_slice(field);
        }
        state::write_durably(path, &state::sealed(whole))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A field, which begins with its length, and what comes after it.
fn split_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

impl Kept {
    fn insert(&mut self, key: &[u8], value: Vec<u8>) {
        let bytes = key.len() + value.len();
        if self.bytes + bytes > MAX_BYTES {
            *self = Self::default();
        }
        self.bytes += bytes;
        if let Some(before) = self.compiled.insert(key.to_vec(), value) {
            // Two threads have compiled it at once.
            self.bytes -= key.len() + before.len();
        }
    }
}

impl wasmtime::CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.kept().compiled.get(key).cloned().map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.changed.store(true, Ordering::Relaxed);
        self.kept().insert(key, value);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wasm_encoder::{CodeSection, Function, FunctionSection, Module, TypeSection};
    use wasmtime::CacheStore as _;

    use super::{Functions, MAX_BYTES};

    /// Functions of so many additions.
    fn module(functions: &[i32]) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut declared = FunctionSection::new();
        let mut code = CodeSection::new();
        for &additions in functions {
            let mut function = Function::new([]);
            function.instructions().i32_const(1);
            for i in 0..additions {
                function.instructions().i32_const(i).i32_add();
            }
            function.instructions().drop().end();
            declared.function(0);
            code.function(&function);
        }
        let mut module = Module::new();
        module.section(&types).section(&declared).section(&code);
        module.finish()
    }

    /// How many functions are kept after a module was compiled with those of a file.
    fn kept(file: &std::path::Path, functions: &[i32]) -> usize {
        let known = Arc::new(Functions::read(file));
        let mut config = wasmtime::Config::new();
        let store = Arc::clone(&known);
        config.enable_incremental_compilation(store).unwrap();
        let engine = wasmtime::Engine::new(&config).unwrap();
        engine.precompile_module(&module(functions)).unwrap();
        known.write(file).unwrap();
        known.kept().compiled.len()
    }

    #[test]
    fn a_function_is_compiled_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("functions");
        let first = kept(&file, &[1, 2, 3, 1, 2, 3]);
        let written = std::fs::read(&file).unwrap();
        assert_eq!(kept(&file, &[3, 2, 1]), first);
        assert_eq!(kept(&file, &[1, 2, 4]), first + 1);
        // One that is damaged counts for nothing.
        let mut damaged = written;
        damaged[20] ^= 1;
        std::fs::write(&file, damaged).unwrap();
        assert!(Functions::read(&file).kept().compiled.is_empty());
        assert_eq!(kept(&file, &[1, 2, 3]), first);
    }

    #[test]
    fn what_is_kept_has_bounds() {
        let functions = Functions::default();
        for i in 0..4_u8 {
            functions.insert(&[i], vec![i; MAX_BYTES / 3]);
        }
        assert!(functions.get(&[0]).is_none());
        assert_eq!(functions.get(&[3]).unwrap()[..2], [3, 3]);
        functions.insert(&[3], vec![7; MAX_BYTES / 3]);
        assert_eq!(functions.get(&[3]).unwrap()[..2], [7, 7]);
        assert!(functions.kept().bytes <= MAX_BYTES);
    }
}
