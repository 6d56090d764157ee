//! Loading ONNX Runtime and the model's files into sessions, on the device asked for.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProvider};
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::SessionBuilder;
use parking_lot::Mutex;

use super::rows::Rows;
use super::{Decoder, Encoder, Session, Sessions, built, onnx};
use crate::LoadError;
use crate::engine::{Config, Device};
use crate::model::{Contents, DecoderFiles, OnnxFiles, Precision, Sizes, Weights};

/// Sessions and how they came to be.
pub(crate) struct Loaded {
    pub sessions: Sessions,
    pub precision: Precision,
    /// Whether a window's tokens are the same whatever else is in its batch.
    pub batches: bool,
    /// Names of the files in use.
    pub files: Vec<String>,
    /// `cpu` or `cuda`.
    pub device: &'static str,
}

/// Load the library of `config`, then the model.
pub(crate) fn load(config: &Config, contents: &Contents) -> Result<Loaded, LoadError> {
    let load = |cuda| Settings::of(&config.library, config.threads, cuda)?.load(config, contents);
    environment(&config.library)?;
    let offers_cuda = CUDA::is_available().unwrap_or(false);
    match config.device {
        Device::Cpu => load(false),
        Device::Cuda if !offers_cuda => Err(LoadError::Cuda(format!(
            "`{}` was built without CUDA",
            config.library.display()
        ))),
        Device::Cuda => load(true).map_err(|error| match error {
            LoadError::Session { file, reason } => {
                LoadError::Cuda(format!("`{}`: {reason}", file.display()))
            }
            other => other,
        }),
        Device::Auto if offers_cuda => match load(true) {
            Err(LoadError::Session { file, reason }) => {
                tracing::warn!(file = %file.display(), reason, "CUDA cannot be used, falling back to the CPU");
                load(false)
            }
            other => other,
        },
        Device::Auto => load(false),
    }
}

/// ONNX Runtime's environment and the library it came from. It allows one per process, so it is kept for every engine.
static ENVIRONMENT: Mutex<Option<(Environment, PathBuf)>> = Mutex::new(None);

/// Load the library, or take the one that was loaded first.
fn environment(library: &Path) -> Result<Environment, LoadError> {
    let failed = |reason: String| LoadError::Library {
        path: library.to_owned(),
        reason,
    };
    if !library.is_file() {
        return Err(failed("there is no such file".into()));
    }
    // A bare file name would be looked for in the system's folders instead.
    let library = &std::path::absolute(library).map_err(|error| failed(error.to_string()))?;
    let mut loaded = ENVIRONMENT.lock();
    if let Some((environment, from)) = &*loaded {
        if from != library {
            tracing::warn!(
                asked = %library.display(),
                loaded = %from.display(),
                "a process loads one ONNX Runtime; the first one stays"
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
    built::register_operators(&environment).map_err(|error| failed(error.to_string()))?;
    *loaded = Some((environment.clone(), library.to_owned()));
    Ok(environment)
}

/// The oldest ONNX Runtime 1 that has the operators of the graphs built here.
const OLDEST: u32 = 31;

/// The version that a library says it is. `ort` asks for less.
fn version(library: &Path) -> Result<String, libloading::Error> {
    // SAFETY: loading it runs its initialisers, which are to be run in any case; the types are those of its C interface.
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
    matches!((numbers.next(), numbers.next()), (Some(Ok(1u32)), Some(Ok(minor))) if minor >= OLDEST)
}

/// What all sessions of a model have in common.
pub(super) struct Settings {
    environment: Environment,
    pub threads: usize,
    pub cuda: bool,
}

impl Settings {
    /// Load the library, if that has not been done.
    pub fn of(library: &Path, threads: usize, cuda: bool) -> Result<Self, LoadError> {
        Ok(Self {
            environment: environment(library)?,
            threads,
            cuda,
        })
    }

    fn load(&self, config: &Config, contents: &Contents) -> Result<Loaded, LoadError> {
        let sizes = &contents.sizes;
        let device = if self.cuda { "cuda" } else { "cpu" };
        match &contents.weights {
            Weights::Checkpoint(checkpoint) => {
                let precision = config.precision.of_checkpoint(self.cuda);
                let cache = config.cache.as_deref();
                let (encoder, decoder) =
                    built::load(self, checkpoint, sizes, precision, cache, &[])?;
                Ok(Loaded {
                    sessions: Sessions {
                        encoder: Encoder::Built(encoder),
                        decoder: Decoder::Built(Box::new(decoder)),
                    },
                    precision,
                    batches: true,
                    files: checkpoint.files.iter().map(|file| name(file)).collect(),
                    device,
                })
            }
            Weights::Onnx(folder) => {
                let files = folder.files(config.precision, self.cuda)?;
                let (encoder, decoder) = self.onnx(&files, sizes)?;
                Ok(Loaded {
                    sessions: Sessions {
                        encoder: Encoder::Onnx(encoder),
                        decoder: Decoder::Onnx(Box::new(decoder)),
                    },
                    precision: files.precision,
                    batches: files.precision.batches(),
                    files: files.paths().into_iter().map(|file| name(file)).collect(),
                    device,
                })
            }
        }
    }

    fn onnx(
        &self,
        files: &OnnxFiles,
        sizes: &Sizes,
    ) -> Result<(onnx::Encoder, onnx::Decoder), LoadError> {
        let failed = failed(&files.encoder);
        let memory = |cuda| memory(cuda).map_err(&failed);
        let encoder = onnx::Encoder::new(self.session(&files.encoder)?, memory(self.cuda)?, sizes)?;
        let graphs = match &files.decoder {
            DecoderFiles::Merged(file) => onnx::Graphs {
                first: self.session(file)?,
                next: None,
            },
            DecoderFiles::Split { first, next } => onnx::Graphs {
                first: self.session(first)?,
                next: Some(self.session(next)?),
            },
        };
        let decoder = onnx::Decoder::new(
            graphs,
            memory(self.cuda)?,
            memory(false)?,
            |element, dimensions, count| {
                Rows::new(self, memory(self.cuda)?, element, dimensions, count).map_err(&failed)
            },
            sizes,
        )?;
        Ok((encoder, decoder))
    }

    fn session(&self, file: &Path) -> Result<Session, LoadError> {
        let session = self
            .builder(self.threads)
            .and_then(|mut builder| builder.commit_from_file(file))
            .map_err(failed(file))?;
        Session::new(session, file, Vec::new())
    }

    /// A session's settings, to which a graph is still to be given.
    pub fn builder(&self, threads: usize) -> ort::Result<SessionBuilder> {
        // Threads that spin between windows would take the cores from the audio decoding and the components.
        let mut builder = ort::session::Session::builder(&self.environment)?
            .with_intra_threads(threads)?
            .with_intra_op_spinning(false)?;
        if self.cuda {
            builder =
                builder.with_execution_providers([CUDA::default().build().error_on_failure()])?;
        }
        Ok(builder)
    }
}

/// Host memory, or the device's.
pub(super) fn memory(cuda: bool) -> ort::Result<MemoryInfo<'static>> {
    let (device, kind) = if cuda {
        (AllocationDevice::CUDA, MemoryType::Default)
    } else {
        (AllocationDevice::CPU, MemoryType::CPUOutput)
    };
    MemoryInfo::new(device, 0, AllocatorType::Device, kind)
}

/// Of which file ONNX Runtime says what.
pub(super) fn failed<E: std::fmt::Display>(file: &Path) -> impl Fn(E) -> LoadError {
    move |error| LoadError::Session {
        file: file.to_owned(),
        reason: error.to_string(),
    }
}

fn name(file: &Path) -> String {
    file.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
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
