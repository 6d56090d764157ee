//! ONNX Runtime's library and its environment, one per process.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use ort::environment::Environment;
use parking_lot::Mutex;

use crate::LoadError;

/// ONNX Runtime's environment and the library it was loaded from. There can be only one per process, which all engines share.
static ENVIRONMENT: Mutex<Option<(Environment, PathBuf)>> = Mutex::new(None);

/// Loads the library, or returns the environment of the one already loaded. `prepare` is called once, before any session exists.
pub(super) fn environment(
    library: &Path,
    prepare: impl FnOnce(&Environment) -> ort::Result<()>,
) -> Result<Environment, LoadError> {
    let failed = |reason: String| LoadError::Library {
        path: library.to_owned(),
        reason,
    };
    if !library.is_file() {
        return Err(failed("there is no such file".into()));
    }
    // A bare file name would be searched for in the system's folders instead.
    let library = &std::path::absolute(library).map_err(|error| failed(error.to_string()))?;
    let mut loaded = ENVIRONMENT.lock();
    if let Some((environment, from)) = &*loaded {
        if from != library {
            tracing::warn!(
                asked = %library.display(),
                loaded = %from.display(),
                "a process can load only one ONNX Runtime; using the first one"
            );
        }
        return Ok(environment.clone());
    }
    let version = version(library).map_err(|error| failed(error.to_string()))?;
    if !is_new_enough(&version) {
        return Err(failed(format!("it is version {version}")));
    }
    let environment = ort::init_from(library)
        .map_err(|error| failed(error.to_string()))?
        .with_name("inference")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    prepare(&environment).map_err(|error| failed(error.to_string()))?;
    *loaded = Some((environment.clone(), library.to_owned()));
    Ok(environment)
}

/// The minor version of the oldest ONNX Runtime 1 that has the operators of the graphs built here.
const MIN_MINOR: u32 = 31;

/// Returns the version that a library reports. `ort` itself requires less.
fn version(library: &Path) -> Result<String, libloading::Error> {
    // SAFETY: loading it runs its initialisers, which will be run in any case; the types are those of its C interface.
    unsafe {
        let library = libloading::Library::new(library)?;
        let base: libloading::Symbol<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase> =
            library.get(b"OrtGetApiBase")?;
        let version = ((*base()).GetVersionString)();
        Ok(CStr::from_ptr(version).to_string_lossy().into_owned())
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(str::parse);
    matches!((numbers.next(), numbers.next()), (Some(Ok(1u32)), Some(Ok(minor))) if minor >= MIN_MINOR)
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_libraries_with_all_operators_are_new_enough() {
        for (version, expected) in [
            ("1.31.0", true),
            ("1.40.2", true),
            ("1.30.1", false),
            ("2.0.0", false),
            ("rel-1.31", false),
            ("", false),
        ] {
            assert_eq!(super::is_new_enough(version), expected, "{version}");
        }
    }
}
