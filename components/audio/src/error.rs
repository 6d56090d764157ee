//! Why a file cannot be used.

/// The cases of the WIT variant `frontend.error`. The texts are for people and say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no audio container that is known.
    #[error("{0}")]
    NotAudio(String),
    /// The container is known, but not this codec, or it has no audio track.
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
