//! A window on its way through the scheduler.

use std::sync::{Arc, Weak};

use tracing::Span;

use super::queue::Entry;
use crate::decode::Attempt;
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
    /// Where the answer goes. When nobody waits there any more, the window is dropped.
    pub reply: Weak<dyn Recipient>,
    /// From when it is cut until it is answered.
    pub span: Span,
    /// Tokens before the window's text; windows are batched with those that have as many.
    pub prompt_length: usize,
}

/// Waits for windows to be decoded.
pub(crate) trait Recipient: Send + Sync {
    /// Takes the answer, on the scheduler's thread.
    fn complete(&self, result: Result<Decoded, Error>);
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
