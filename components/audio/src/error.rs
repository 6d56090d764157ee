//! Why a file cannot be used.

/// The cases of the WIT variant `features.error`. The texts are human-readable and say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not a known audio container.
    #[error("{0}")]
    NotAudio(String),
    /// The container or codec is recognised, but not supported (the text names it), or there is no audio track.
    #[error("{0}")]
    UnsupportedCodec(String),
    /// It is audio, but cannot be decoded.
    #[error("{0}")]
    Corrupt(String),
    /// There are no bytes, or no audio samples.
    #[error("{0}")]
    Empty(String),
    /// An option has an invalid value.
    #[error("{0}")]
    InvalidOption(String),
}

/// Suggestion for a file that cannot be read; appended to several messages.
pub(crate) const CONVERT: &str = "convert it, e.g. with `ffmpeg -i INPUT output.wav`";

/// Error for a format that is recognised but not supported.
pub(crate) fn unsupported(what: &str) -> Error {
    Error::UnsupportedCodec(format!("{what} is not supported: {CONVERT}"))
}

/// Error for a damaged file.
pub(crate) fn damaged(what: &str) -> Error {
    Error::Corrupt(format!(
        "{what}: the file is damaged or truncated, send it again or {CONVERT}"
    ))
}
