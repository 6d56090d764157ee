//! From many transcriptions to one model: windows queue up, one thread decodes them in batches, and each answer goes
//! back the moment its row ends.
//!
//! A transcription has at most one window here, because where the next one begins is known only when the one before is
//! decoded. With first come, first served this is fair: a long recording waits its turn anew after every window.

mod metrics;
mod queue;
mod worker;

pub use metrics::Metrics;

pub(crate) use metrics::Counters;
pub(crate) use queue::{Entry, Queue};
pub(crate) use worker::Worker;

use std::sync::{Arc, Weak};

use crate::decode::window::Attempt;
use crate::transcription::Stream;
use crate::{Error, Options};

/// A window to decode.
pub(crate) struct Window {
    /// `[frames, n_mels]`, log10 mel power.
    pub frames: Vec<f32>,
    /// Tokens of the text before the window, after the token that announces them; empty for none.
    pub preceding: Vec<u32>,
    /// Token of the language; none where it is to be detected or the model has no such tokens.
    pub language: Option<u32>,
    /// Whether the language is to be detected first.
    pub detect: bool,
    /// How many windows the transcription had before this one: the seed of its sampling.
    pub index: u64,
    pub options: Arc<Options>,
    /// Who waits for it. When nobody does any more, the window is dropped.
    pub stream: Weak<Stream>,
    /// Tokens before the window's text; windows are batched with those that have as many.
    pub prompt_length: usize,
}

/// What came of a window.
pub(crate) struct Decoded {
    /// The language in use, if it was detected in this window.
    pub language: Option<String>,
    /// None for a window without speech.
    pub attempt: Option<Attempt>,
    /// Whether the text is doubtful at every temperature.
    pub failed: bool,
}

impl Window {
    /// Tell whoever waits for it that the model failed. The reason is for the log.
    pub fn fail(self) {
        self.answer(Err(Error::Internal(
            "the model failed; the host's log has the reason".into(),
        )));
    }

    /// Hand the answer to whoever waits for it.
    pub fn answer(self, result: Result<Decoded, Error>) {
        if let Some(stream) = self.stream.upgrade() {
            stream.complete(result);
        }
    }
}

impl Entry for Window {
    fn is_wanted(&self) -> bool {
        self.stream.strong_count() > 0
    }

    fn fits_with(&self, other: &Self) -> bool {
        self.prompt_length == other.prompt_length
    }

    fn rows(&self) -> usize {
        self.options.beam_size as usize
    }
}
