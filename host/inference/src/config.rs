//! How a model is loaded, and how much the engine takes on.

use std::path::PathBuf;

use crate::LoadError;
use crate::model::Precision;

/// What the model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// CUDA where the library offers it and it works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA, or an error.
    Cuda,
}

/// How to load a model and how much to take on.
#[derive(Debug, Clone)]
pub struct Config {
    /// What its metrics call the model.
    pub name: String,
    /// The model's folder.
    pub model: PathBuf,
    /// ONNX Runtime's shared library, 1.31 or newer. A process loads one: later engines use the first one's.
    pub library: PathBuf,
    /// What to run on.
    pub device: Device,
    /// What to compute with, and so which ONNX files to use.
    pub precision: Precision,
    /// Where quantised weights are kept, so that the next start maps them; none: every start makes them again.
    pub cache: Option<PathBuf>,
    /// Threads for one operation; at least 1.
    pub threads: usize,
    /// Most rows decoded at once; at least 1. A window takes as many as its beam search has hypotheses. ONNX files of
    /// int8 and uint8 are always decoded one window at a time: in a batch a window's text would depend on its neighbours.
    pub max_batch: usize,
    /// Most transcriptions in progress; at least 1. Each has at most one window in the queue. Beyond, `start` fails
    /// with [`Error::Overloaded`].
    pub max_queue: usize,
    /// Most seconds of frames kept for one transcription, at least two windows; beyond, `push` waits. One push may have a
    /// window less.
    pub max_buffered_seconds: f64,
}

impl Config {
    /// The defaults: the folder's name, device and precision by themselves, a thread per core, batches of 8 rows, 64
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
