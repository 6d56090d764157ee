//! Functions that were compiled before, in memory.
//!
//! A handler in JavaScript or Python carries an interpreter of thousands of functions, some of them more than once, and its next
//! revision changes few. Only a component that is not in the cache on disk is compiled, so a host that deploys nothing keeps none.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Bytes that are kept; the engine of JavaScript has 40 million. Beyond, all begins anew.
const MAX_BYTES: usize = 128 << 20;

#[derive(Debug, Default)]
pub(super) struct Functions(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    bytes: usize,
    compiled: HashMap<Vec<u8>, Vec<u8>>,
}

impl wasmtime::CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.compiled.get(key).cloned().map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = key.len() + value.len();
        if kept.bytes + bytes > MAX_BYTES {
            *kept = Kept::default();
        }
        kept.bytes += bytes;
        if let Some(before) = kept.compiled.insert(key.to_vec(), value) {
            // Two threads have compiled it at once.
            kept.bytes -= key.len() + before.len();
        }
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

    #[test]
    fn a_function_is_compiled_once() {
        let functions = Arc::new(Functions::default());
        let mut config = wasmtime::Config::new();
        config
            .enable_incremental_compilation(Arc::clone(&functions) as _)
            .unwrap();
        let engine = wasmtime::Engine::new(&config).unwrap();
        let kept = |module: &[u8]| {
            wasmtime::Module::new(&engine, module).unwrap();
            functions.0.lock().unwrap().compiled.len()
        };
        let first = kept(&module(&[1, 2, 3, 1, 2, 3]));
        assert_eq!(kept(&module(&[3, 2, 1])), first);
        assert_eq!(kept(&module(&[1, 2, 4])), first + 1);
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
        assert!(functions.0.lock().unwrap().bytes <= MAX_BYTES);
    }
}
