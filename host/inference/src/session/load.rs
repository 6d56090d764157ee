//! Loading ONNX Runtime and the model's files into sessions, on the device asked for.

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProvider};
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{Session, builder::SessionBuilder};
use parking_lot::Mutex;

use super::decoder::Graphs;
use super::rows::Rows;
use super::{Decoder, Encoder, Graph, Sessions};
use crate::LoadError;
use crate::engine::{Config, Device};
use crate::model::{DecoderFiles, Folder, Precision, Sizes};

/// Sessions and how they came to be.
pub(crate) struct Loaded {
    pub sessions: Sessions,
    pub precision: Precision,
    /// Names of the ONNX files in use.
    pub files: Vec<String>,
    /// `cpu` or `cuda`.
    pub device: &'static str,
}

/// Load the library of `config`, then the model's files.
pub(crate) fn load(config: &Config, folder: &Folder, sizes: &Sizes) -> Result<Loaded, LoadError> {
    let environment = environment(&config.library)?;
    let offers_cuda = CUDA::is_available().unwrap_or(false);
    let settings = |cuda| Settings {
        environment: environment.clone(),
        threads: config.threads,
        cuda,
    };
    match config.device {
        Device::Cpu => {}
        Device::Cuda if !offers_cuda => {
            return Err(LoadError::Cuda(format!(
                "`{}` was built without CUDA",
                config.library.display()
            )));
        }
        Device::Cuda => {
            return settings(true)
                .load(folder, sizes, config.precision)
                .map_err(|error| match error {
                    LoadError::Session { file, reason } => {
                        LoadError::Cuda(format!("`{}`: {reason}", file.display()))
                    }
                    other => other,
                });
        }
        Device::Auto if offers_cuda => match settings(true).load(folder, sizes, config.precision) {
            Ok(loaded) => return Ok(loaded),
            Err(LoadError::Session { file, reason }) => {
                tracing::warn!(file = %file.display(), reason, "CUDA cannot be used, falling back to the CPU");
            }
            Err(error) => return Err(error),
        },
        Device::Auto => {}
    }
    settings(false).load(folder, sizes, config.precision)
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
    let environment = ort::init_from(library)
        .map_err(|error| failed(error.to_string()))?
        .with_name("inference")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    *loaded = Some((environment.clone(), library.to_owned()));
    Ok(environment)
}

/// What all sessions of a model have in common.
pub(super) struct Settings {
    environment: Environment,
    threads: usize,
    cuda: bool,
}

impl Settings {
    fn load(
        self,
        folder: &Folder,
        sizes: &Sizes,
        precision: Precision,
    ) -> Result<Loaded, LoadError> {
        let files = folder.files(precision, self.cuda)?;
        let encoder = Encoder::new(
            self.graph(&files.encoder)?,
            memory(self.cuda).map_err(failed(&files.encoder))?,
            sizes,
        )?;
        let (graphs, decoder_files) = match files.decoder {
            DecoderFiles::Merged(file) => {
                let graphs = Graphs {
                    first: self.graph(&file)?,
                    next: None,
                };
                (graphs, vec![file])
            }
            DecoderFiles::Split { first, next } => {
                let graphs = Graphs {
                    first: self.graph(&first)?,
                    next: Some(self.graph(&next)?),
                };
                (graphs, vec![first, next])
            }
        };
        let memory = |cuda| memory(cuda).map_err(failed(&decoder_files[0]));
        let decoder = Decoder::new(
            graphs,
            memory(self.cuda)?,
            memory(false)?,
            |element, dimensions, count| {
                Rows::new(&self, memory(self.cuda)?, element, dimensions, count)
                    .map_err(failed(&decoder_files[0]))
            },
            sizes,
        )?;
        let name = |file: &PathBuf| {
            file.file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
        };
        Ok(Loaded {
            sessions: Sessions { encoder, decoder },
            precision: files.precision,
            files: std::iter::once(&files.encoder)
                .chain(&decoder_files)
                .map(name)
                .collect(),
            device: if self.cuda { "cuda" } else { "cpu" },
        })
    }

    fn graph(&self, file: &Path) -> Result<Graph, LoadError> {
        let session = self
            .builder(self.threads)
            .and_then(|mut builder| builder.commit_from_file(file))
            .map_err(failed(file))?;
        let binding = session.create_binding().map_err(failed(file))?;
        Ok(Graph {
            session,
            binding,
            file: file.to_owned(),
        })
    }

    /// A session's settings, to which a graph is still to be given.
    pub fn builder(&self, threads: usize) -> ort::Result<SessionBuilder> {
        // Threads that spin between windows would take the cores from the audio decoding and the components.
        let mut builder = Session::builder(&self.environment)?
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
fn memory(cuda: bool) -> ort::Result<MemoryInfo<'static>> {
    let (device, kind) = if cuda {
        (AllocationDevice::CUDA, MemoryType::Default)
    } else {
        (AllocationDevice::CPU, MemoryType::CPUOutput)
    };
    MemoryInfo::new(device, 0, AllocatorType::Device, kind)
}

/// Of which file ONNX Runtime says what.
fn failed<E: std::fmt::Display>(file: &Path) -> impl Fn(E) -> LoadError {
    move |error| LoadError::Session {
        file: file.to_owned(),
        reason: error.to_string(),
    }
}
