//! Cuts a recording into the windows that are decoded: by the frames alone, before any of them is.
//!
//! A window that more audio follows ends at the quietest pause of its later half, so that no word is cut in two. A window without
//! anything that could be speech is skipped.

mod pause;
mod silence;

use self::pause::cut;
use self::silence::is_silent;
use crate::features::loudest;
use crate::model::Dimensions;

/// Seconds of quiet that a window is cut in: about the shortest pause between sentences.
const PAUSE: f64 = 0.3;

/// Seconds that no word is shorter than. A click is, and the rest of a recording that the last window has left.
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
    /// The loudest value of the windows so far.
    loudest: f32,
}

/// What comes next in a recording. Each has its length in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stretch {
    /// A window to decode.
    Speech(usize),
    /// Nothing that could be speech.
    Silence(usize),
    /// Too short for a word.
    Rest(usize),
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

    /// What the frames, `[frames, n_mels]`, begin with; none while more frames are needed, or after the last.
    /// `finished`: no more frames follow these.
    pub fn next(&mut self, frames: &[f32], finished: bool) -> Option<Stretch> {
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
            Stretch::Silence(length)
        } else if length < self.shortest {
            Stretch::Rest(length)
        } else {
            Stretch::Speech(length)
        })
    }
}
