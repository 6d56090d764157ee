//! Loads a model's files into sessions on the requested device.

use std::path::Path;

use ort::ep::{CUDA, ExecutionProvider};

use super::bound::Session;
use super::environment::environment;
use super::rows::Rows;
use super::sessions::{Decoder, Encoder, Sessions};
use super::settings::{Settings, failed, memory};
use super::{built, onnx};
use crate::LoadError;
use crate::config::{Config, Device};
use crate::model::{Contents, DecoderFiles, Dimensions, OnnxFiles, Precision, Weights};

/// Sessions, and how they were loaded.
pub(crate) struct Loaded {
    pub sessions: Sessions,
    pub precision: Precision,
    /// Whether a window's tokens do not depend on the rest of its batch.
    pub batches: bool,
    /// Names of the files in use.
    pub files: Vec<String>,
    /// `cpu` or `cuda`.
    pub device: &'static str,
}

/// Loads the library of `config`, then the model.
pub(crate) fn load(config: &Config, contents: &Contents) -> Result<Loaded, LoadError> {
    let environment = environment(&config.library, built::register_operators)?;
    let load = |cuda| {
        let settings = Settings::new(environment.clone(), config.threads, cuda);
        load_on(&settings, config, contents)
    };
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

fn load_on(settings: &Settings, config: &Config, contents: &Contents) -> Result<Loaded, LoadError> {
    let dimensions = &contents.dimensions;
    let device = if settings.cuda { "cuda" } else { "cpu" };
    match &contents.weights {
        Weights::Checkpoint(checkpoint) => {
            let precision = config.precision.for_checkpoint(settings.cuda);
            let cache = config.cache.as_deref();
            let (encoder, decoder) =
                built::load(settings, checkpoint, dimensions, precision, cache, &[])?;
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
            let files = folder.files(config.precision, settings.cuda)?;
            let (encoder, decoder) = load_onnx(settings, &files, dimensions)?;
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

fn load_onnx(
    settings: &Settings,
    files: &OnnxFiles,
    dimensions: &Dimensions,
) -> Result<(onnx::Encoder, onnx::Decoder), LoadError> {
    let failed = failed(&files.encoder);
    let memory = |cuda| memory(cuda).map_err(&failed);
    let encoder = onnx::Encoder::new(
        session(settings, &files.encoder)?,
        memory(settings.cuda)?,
        dimensions,
    )?;
    let graphs = match &files.decoder {
        DecoderFiles::Merged(file) => onnx::Graphs {
            first: session(settings, file)?,
            next: None,
        },
        DecoderFiles::Split { first, next } => onnx::Graphs {
            first: session(settings, first)?,
            next: Some(session(settings, next)?),
        },
    };
    let decoder = onnx::Decoder::new(
        graphs,
        memory(settings.cuda)?,
        memory(false)?,
        |element, dimensions, count| {
            Rows::new(settings, memory(settings.cuda)?, element, dimensions, count).map_err(&failed)
        },
        dimensions,
    )?;
    Ok((encoder, decoder))
}

fn session(settings: &Settings, file: &Path) -> Result<Session, LoadError> {
    let session = settings
        .builder(settings.threads)
        .and_then(|mut builder| builder.commit_from_file(file))
        .map_err(failed(file))?;
    Session::new(session, file, Vec::new())
}

fn name(file: &Path) -> String {
    file.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
