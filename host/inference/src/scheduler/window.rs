//! A window in the scheduler.

use std::sync::{Arc, Weak};
use std::time::Instant;

use tracing::Span;

use super::queue::Entry;
use crate::decode::Attempt;
use crate::{Error, Options};

/// A window to decode.
pub(crate) struct Window {
    /// `[frames, n_mels]`, log10 mel power.
    pub frames: Vec<f32>,
    /// Tokens of the text before the window, without the token that marks their start; may be empty.
    pub preceding: Vec<u32>,
    /// Token of the language; `None` if it is to be detected or the model has no language tokens.
    pub language: Option<u32>,
    /// Whether the language is to be detected first.
    pub detect: bool,
    /// Index of the window in its transcription: part of the seed of its sampling.
    pub index: u64,
    pub options: Arc<Options>,
    /// Receives the result. The window is dropped if the recipient is gone.
    pub reply: Weak<dyn Recipient>,
    /// When it was cut.
    pub since: Instant,
    /// Span from cutting the window to its result.
    pub span: Span,
    /// Span of its time in the queue.
    pub queue_span: Span,
    /// Number of tokens before the window's text; only windows with equal numbers are batched.
    pub prompt_length: usize,
}

/// Receives decoded windows.
pub(crate) trait Recipient: Send + Sync {
    /// Takes the result, on the scheduler's thread.
    fn complete(&self, result: Result<Decoded, Error>);
}

/// The result of a window.
pub(crate) struct Decoded {
    /// The language in use, if it was detected in this window.
    pub language: Option<String>,
    /// `None` for a window without speech.
    pub attempt: Option<Attempt>,
    /// Whether the text failed at every temperature.
    pub failed: bool,
}

impl Window {
    /// Reports to the recipient that the model failed.
    pub fn fail(self, reason: String) {
        self.answer(Err(Error::Internal(reason)));
    }

    /// Passes the result to the recipient.
    pub fn answer(self, result: Result<Decoded, Error>) {
        if let Some(recipient) = self.reply.upgrade() {
            recipient.complete(result);
        }
    }
}

impl Entry for Window {
    fn is_wanted(&self) -> bool {
        self.reply.strong_count() > 0
    }

    fn fits_with(&self, other: &Self) -> bool {
        self.prompt_length == other.prompt_length
    }

    fn rows(&self) -> usize {
        self.options.beam_size as usize
    }
}
