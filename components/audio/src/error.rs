//! Why a file cannot be used.

/// The cases of the WIT variant `features.error`. The texts are for people and say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no audio container that is known.
    #[error("{0}")]
    NotAudio(String),
    /// The container or the codec is recognised, but not supported (the text names it), or there is no audio track.
    #[error("{0}")]
    UnsupportedCodec(String),
    /// It is audio, but it cannot be decoded.
    #[error("{0}")]
    Corrupt(String),
    /// There are no bytes, or not one sample of audio.
    #[error("{0}")]
    Empty(String),
    /// An option has a value that is not allowed.
    #[error("{0}")]
    InvalidOption(String),
}

/// What can be done about a file that cannot be read; the end of several messages.
pub(crate) const CONVERT: &str = "convert it, e.g. with `ffmpeg -i INPUT output.wav`";

/// The error for what is recognised but not supported.
pub(crate) fn unsupported(what: &str) -> Error {
    Error::UnsupportedCodec(format!("{what} is not supported: {CONVERT}"))
}

/// The error for a damaged file.
pub(crate) fn damaged(what: &str) -> Error {
    Error::Corrupt(format!(
        "{what}: the file is damaged or cut off, send it again or {CONVERT}"
    ))
}
