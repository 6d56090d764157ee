//! Errors of loading a model and of transcribing with it.

use std::path::PathBuf;

/// Why an engine could not be loaded. Each message names the file, the field, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The ONNX Runtime library could not be loaded.
    #[error("cannot load ONNX Runtime from `{}`: {reason}; point the setting for the library at libonnxruntime.so, version 1.31 or newer", path.display())]
    Library {
        /// The requested library.
        path: PathBuf,
        /// The loader's error.
        reason: String,
    },
    /// A required file of a model folder is missing or cannot be read.
    #[error("model folder `{}`: {what}", folder.display())]
    Folder {
        /// The model folder.
        folder: PathBuf,
        /// Which file is missing or unreadable, and what to do.
        what: String,
    },
    /// A field of one of the model's files is missing or invalid.
    #[error("`{}`: {field}: {problem}", file.display())]
    Field {
        /// The file.
        file: PathBuf,
        /// The field or tensor in it.
        field: String,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// ONNX Runtime could not load a model file.
    #[error("`{}`: ONNX Runtime cannot load it: {reason}", file.display())]
    Session {
        /// The ONNX file.
        file: PathBuf,
        /// ONNX Runtime's error.
        reason: String,
    },
    /// CUDA was requested but cannot be used.
    #[error(
        "device `cuda` cannot be used: {0}; install the CUDA build of ONNX Runtime with its CUDA and cuDNN libraries, or use device `cpu` or `auto`"
    )]
    Cuda(String),
    /// A setting is out of range.
    #[error("setting `{name}`: {problem}")]
    Config {
        /// The field of `Config`.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// Why a call on a transcription failed. The variant is the stable code; the message is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The model does not support the language.
    #[error("{0}")]
    UnsupportedLanguage(String),
    /// The option is valid, but this model or host does not support it.
    #[error("{0}")]
    UnsupportedOption(String),
    /// An option is out of range.
    #[error("{0}")]
    InvalidOption(String),
    /// The frames are not whole rows of `n_mels` finite numbers.
    #[error("{0}")]
    InvalidFrames(String),
    /// Called out of order.
    #[error("{0}")]
    InvalidState(String),
    /// The engine's maximum number of transcriptions is in progress.
    #[error("the engine is busy; try again in {retry_after} s")]
    Overloaded {
        /// Seconds after which there is likely to be capacity.
        retry_after: u32,
    },
    /// The model failed.
    #[error("{0}")]
    Internal(String),
}

/// Returns the message of a caught panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panic")
        .to_owned()
}
