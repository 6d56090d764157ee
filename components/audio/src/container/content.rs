//! The output of a demultiplexer.

use crate::Error;
use crate::blocks::Blocks;
use crate::payload::Pieces;

/// The audio of a file, located in its container.
pub(crate) struct Content {
    /// Short name.
    pub(super) container: &'static str,
    pub(super) coding: Coding,
    pub(super) pieces: Box<dyn Pieces>,
    /// Length of the audio in bytes, if known without reading it.
    pub(super) len: Option<u64>,
}

/// Coding of the audio in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Coding {
    Blocks(Blocks),
    /// Layers 1, 2, 3.
    MpegAudio,
    /// AAC, each frame with an ADTS header.
    Adts,
}

/// Error for a container without an audio track.
pub(super) fn no_audio(container: &str) -> Error {
    Error::UnsupportedCodec(format!(
        "the {container} file has no audio track: send a recording with sound"
    ))
}

/// A four-character code in quotation marks, with unprintable bytes escaped.
pub(super) fn four_cc(name: &[u8; 4]) -> String {
    format!("\"{}\"", name.escape_ascii())
}
