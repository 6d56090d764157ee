//! Cache of compiled functions.
//!
//! A handler in JavaScript or Python contains an interpreter of thousands of functions, some of them repeated, and its next
//! revision changes few.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Size limit in bytes; the JavaScript engine has 40 million. Beyond it, the cache is cleared.
const MAX_BYTES: usize = 128 << 20;

#[derive(Debug, Default)]
pub(super) struct Functions {
    entries: Mutex<Entries>,
    changed: AtomicBool,
}

#[derive(Debug, Default)]
struct Entries {
    bytes: usize,
    compiled: HashMap<Vec<u8>, Vec<u8>>,
}

impl Functions {
    /// Reads the functions in a file. Starts empty if the file is missing or damaged.
    pub(super) fn read(path: &Path) -> Self {
        let mut entries = Entries::default();
        if let Ok(sealed) = std::fs::read(path)
            && let Some(mut rest) = state::unsealed(&sealed)
        {
            while let Some((key, after)) = split_field(rest)
                && let Some((value, after)) = split_field(after)
            {
                entries.insert(key, value.to_vec());
                rest = after;
            }
        }
        Self {
            entries: Mutex::new(entries),
            changed: AtomicBool::new(false),
        }
    }

    /// Writes the functions to a file, if there are new ones.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        if !self.changed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let entries = self.entries();
        let mut content = Vec::with_capacity(entries.bytes + 16 * entries.compiled.len());
        for field in entries
            .compiled
            .iter()
            .flat_map(|(key, value)| [key, value])
        {
            content.extend_from_slice(&(field.len() as u64).to_le_bytes());
            content.extend_from_slice(field);
        }
        state::write_durably(path, &state::sealed(content))
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Splits off the first length-prefixed field.
fn split_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

impl Entries {
    fn insert(&mut self, key: &[u8], value: Vec<u8>) {
        let bytes = key.len() + value.len();
        if self.bytes + bytes > MAX_BYTES {
            *self = Self::default();
        }
        self.bytes += bytes;
        if let Some(before) = self.compiled.insert(key.to_vec(), value) {
            // Two threads compiled it concurrently.
            self.bytes -= key.len() + before.len();
        }
    }
}

impl wasmtime::CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.entries().compiled.get(key).cloned().map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.changed.store(true, Ordering::Relaxed);
        self.entries().insert(key, value);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wasm_encoder::{CodeSection, Function, FunctionSection, Module, TypeSection};
    use wasmtime::CacheStore as _;

    use super::{Functions, MAX_BYTES};

    /// Returns a module with a function for each number of additions.
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

    /// Compiles a module with the functions in a file, and returns how many the file has then.
    fn compile(file: &std::path::Path, functions: &[i32]) -> usize {
        let known = Arc::new(Functions::read(file));
        let mut config = wasmtime::Config::new();
        let store = Arc::clone(&known);
        config.enable_incremental_compilation(store).unwrap();
        let engine = wasmtime::Engine::new(&config).unwrap();
        engine.precompile_module(&module(functions)).unwrap();
        known.write(file).unwrap();
        known.entries().compiled.len()
    }

    #[test]
    fn a_function_is_compiled_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("functions");
        let first = compile(&file, &[1, 2, 3, 1, 2, 3]);
        let written = std::fs::read(&file).unwrap();
        assert_eq!(compile(&file, &[3, 2, 1]), first);
        assert_eq!(compile(&file, &[1, 2, 4]), first + 1);
        // A damaged file is ignored.
        let mut damaged = written;
        damaged[20] ^= 1;
        std::fs::write(&file, damaged).unwrap();
        assert!(Functions::read(&file).entries().compiled.is_empty());
        assert_eq!(compile(&file, &[1, 2, 3]), first);
    }

    #[test]
    fn the_cache_is_bounded() {
        let functions = Functions::default();
        for i in 0..4_u8 {
            functions.insert(&[i], vec![i; MAX_BYTES / 3]);
        }
        assert!(functions.get(&[0]).is_none());
        assert_eq!(functions.get(&[3]).unwrap()[..2], [3, 3]);
        functions.insert(&[3], vec![7; MAX_BYTES / 3]);
        assert_eq!(functions.get(&[3]).unwrap()[..2], [7, 7]);
        assert!(functions.entries().bytes <= MAX_BYTES);
    }
}
