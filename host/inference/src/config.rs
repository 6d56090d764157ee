//! How to load a model, and the limits of the engine.

use std::path::PathBuf;

use crate::LoadError;
use crate::model::Precision;

/// The device that the model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// CUDA if the library supports it and it works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA; loading fails if it cannot be used.
    Cuda,
}

/// How to load a model, and the limits of the engine.
#[derive(Debug, Clone)]
pub struct Config {
    /// The model's name in metrics.
    pub name: String,
    /// The model's folder.
    pub model: PathBuf,
    /// ONNX Runtime's shared library, 1.31 or newer. A process can load only one: later engines use that of the first.
    pub library: PathBuf,
    /// The device to run on.
    pub device: Device,
    /// The precision to compute with, which also selects the ONNX files.
    pub precision: Precision,
    /// Folder in which quantised weights are cached, so that the next start maps them. None: every start quantises them again.
    pub cache: Option<PathBuf>,
    /// Threads per operator; at least 1.
    pub threads: usize,
    /// Maximum number of rows in a batch; at least 1. A window takes as many as its beam search has hypotheses. With int8 and uint8
    /// ONNX files, windows are always decoded one at a time: in a batch, a window's text would depend on the others.
    pub max_batch: usize,
    /// Maximum number of transcriptions in progress; at least 1. Each has at most one window in the queue. Beyond it, `start` fails
    /// with [`crate::Error::Overloaded`].
    pub max_queue: usize,
    /// Maximum seconds of frames buffered for one transcription, at least two windows; beyond it, `push` waits. A single push may
    /// have one window less.
    pub max_buffered_seconds: f64,
}

impl Config {
    /// The defaults: the folder's name, automatic device and precision, a thread per core, batches of 8 rows, 64
    /// transcriptions, 4 minutes.
    pub fn new(model: impl Into<PathBuf>, library: impl Into<PathBuf>) -> Self {
        let model = model.into();
        let name = model.file_name().unwrap_or_default();
        Self {
            name: name.to_string_lossy().into_owned(),
            model,
            library: library.into(),
            device: Device::default(),
            precision: Precision::default(),
            cache: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            max_batch: 8,
            max_queue: 64,
            max_buffered_seconds: 240.0,
        }
    }

    pub(crate) fn check(&self) -> Result<(), LoadError> {
        for (name, value) in [
            ("threads", self.threads),
            ("max_batch", self.max_batch),
            ("max_queue", self.max_queue),
        ] {
            if value == 0 {
                return Err(LoadError::Config {
                    name,
                    problem: "is 0, expected at least 1".into(),
                });
            }
        }
        if !self.max_buffered_seconds.is_finite() || self.max_buffered_seconds <= 0.0 {
            return Err(LoadError::Config {
                name: "max_buffered_seconds",
                problem: format!("is {}, expected seconds above 0", self.max_buffered_seconds),
            });
        }
        Ok(())
    }
}
