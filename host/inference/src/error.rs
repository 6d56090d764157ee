//! What can go wrong: loading a model, and transcribing with it.

use std::path::PathBuf;

/// Why an engine could not be loaded. Each text names the file, the field, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The ONNX Runtime library could not be loaded.
    #[error("cannot load ONNX Runtime from `{}`: {reason}; point the setting for the library at libonnxruntime.so, version 1.31 or newer", path.display())]
    Library {
        /// The library asked for.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// A file that a model folder must have is not there or cannot be read.
    #[error("model folder `{}`: {what}", folder.display())]
    Folder {
        /// The model folder.
        folder: PathBuf,
        /// Which file is missing or unreadable, and what to do.
        what: String,
    },
    /// A field of one of the model's files is missing or makes no sense.
    #[error("`{}`: {field}: {problem}", file.display())]
    Field {
        /// The file.
        file: PathBuf,
        /// The field, or the tensor, in it.
        field: String,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// ONNX Runtime refused a model file.
    #[error("`{}`: ONNX Runtime cannot load it: {reason}", file.display())]
    Session {
        /// The ONNX file.
        file: PathBuf,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// CUDA was asked for and cannot be used.
    #[error(
        "device `cuda` cannot be used: {0}; install the CUDA build of ONNX Runtime with its CUDA and cuDNN libraries, or use device `cpu` or `auto`"
    )]
    Cuda(String),
    /// A setting is out of its range.
    #[error("setting `{name}`: {problem}")]
    Config {
        /// The field of `Config`.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// Why a call on a transcription failed. The variant is the stable code; the text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The model does not know that language.
    #[error("{0}")]
    UnsupportedLanguage(String),
    /// The option is valid, but this model or host cannot do it.
    #[error("{0}")]
    UnsupportedOption(String),
    /// An option is out of its range.
    #[error("{0}")]
    InvalidOption(String),
    /// The frames are not whole rows of `n_mels` finite numbers.
    #[error("{0}")]
    InvalidFrames(String),
    /// Called out of order.
    #[error("{0}")]
    InvalidState(String),
    /// As many transcriptions are in progress as the engine takes.
    #[error("the engine is busy; try again in {retry_after} s")]
    Overloaded {
        /// Seconds after which a place is likely to be free.
        retry_after: u32,
    },
    /// The model failed. The reason is in the log.
    #[error("{0}")]
    Internal(String),
}

/// What a caught panic says.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panic")
        .to_owned()
}
