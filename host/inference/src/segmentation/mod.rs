//! Cuts a recording into windows, from the frames alone, before they are decoded.
//!
//! A window followed by more audio ends at the quietest pause of its later half, so that no word is cut in two. A window that cannot
//! contain speech is skipped.

mod pause;
mod silence;

use self::pause::cut;
use self::silence::is_silent;
use crate::features::loudest;
use crate::model::Dimensions;

/// Length in seconds of the pause at which a window is cut: about the shortest pause between sentences.
const PAUSE: f64 = 0.3;

/// Minimum length of a word in seconds. A click is shorter, or the rest of a recording after its last window.
const SHORTEST: f64 = 0.1;

/// Cuts one recording.
pub(crate) struct Segmenter {
    n_mels: usize,
    /// Frames of a full window.
    window: usize,
    /// Frames of a pause.
    pause: usize,
    /// Frames of the shortest window that is decoded.
    shortest: usize,
    /// The loudest mel value of the windows so far.
    loudest: f32,
}

/// The next chunk of a recording, with its length in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// A window to decode.
    Speech(usize),
    /// No speech possible.
    Silence(usize),
    /// Too short for a word.
    TooShort(usize),
}

impl Segmenter {
    pub fn new(dimensions: &Dimensions) -> Self {
        let frames = |seconds: f64| (seconds * dimensions.frames_per_second) as usize;
        Self {
            n_mels: dimensions.n_mels,
            window: dimensions.window,
            pause: frames(PAUSE),
            shortest: frames(SHORTEST),
            loudest: f32::NEG_INFINITY,
        }
    }

    /// Returns the chunk at the start of the frames, `[frames, n_mels]`; `None` while more frames are needed, or after the last.
    /// `finished` says that no more frames follow.
    pub fn next(&mut self, frames: &[f32], finished: bool) -> Option<Chunk> {
        let available = frames.len() / self.n_mels;
        let length = if available > self.window {
            cut(
                &frames[..self.window * self.n_mels],
                self.n_mels,
                self.pause,
            )
        } else if finished && available > 0 {
            available
        } else {
            return None;
        };
        let level = loudest(&frames[..length * self.n_mels]);
        self.loudest = self.loudest.max(level);
        Some(if is_silent(level, self.loudest) {
            Chunk::Silence(length)
        } else if length < self.shortest {
            Chunk::TooShort(length)
        } else {
            Chunk::Speech(length)
        })
    }
}
