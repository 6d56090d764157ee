//! The thread that owns the sessions: takes a batch, encodes it, decodes it, and retries failed rows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tracing::Span;

use super::handle::Scheduler;
use super::queue::Entry as _;
use super::window::{Decoded, Window};
use crate::Error;
use crate::decode::rules::Rules;
use crate::decode::window::{Context, Listener, decode, detect_languages};
use crate::decode::{Attempt, Row, fallback};
use crate::error::panic_text;
use crate::model::Whisper;
use crate::session::{Sessions, States};

/// A window shorter than this many seconds, except a recording's first, whose text fails at every temperature, has no words: it
/// is breath or noise after the last one.
const SHORT: f64 = 1.0;

/// The scheduler's thread.
pub(crate) struct Worker {
    scheduler: Arc<Scheduler>,
    model: Arc<Whisper>,
    /// Maximum number of rows in a batch; 1 if windows are decoded one by one.
    max_batch: usize,
    sessions: Sessions,
    rules: Rules,
}

/// A window of the batch.
struct Slot {
    /// `None` once its result has been sent.
    window: Option<Window>,
    /// The language detected in this window, as its index in the vocabulary's list.
    detected: Option<usize>,
    /// The best attempt so far; all have failed.
    best: Option<Attempt>,
    /// Span of the window in the current round of decoding.
    decoder_span: Span,
}

impl Slot {
    fn new(mut window: Window) -> Self {
        // Its time in the queue ends.
        window.queue_span = Span::none();
        Self {
            window: Some(window),
            detected: None,
            best: None,
            decoder_span: Span::none(),
        }
    }

    fn is_wanted(&self) -> bool {
        self.window
            .as_ref()
            .is_some_and(|window| window.is_wanted())
    }
}

impl Worker {
    pub fn new(
        scheduler: Arc<Scheduler>,
        model: Arc<Whisper>,
        max_batch: usize,
        sessions: Sessions,
    ) -> Self {
        let rules = Rules::new(&model.vocabulary);
        Self {
            scheduler,
            model,
            max_batch,
            sessions,
            rules,
        }
    }

    /// Decodes batches until the queue is closed.
    pub fn run(mut self) {
        let scheduler = Arc::clone(&self.scheduler);
        while let Some(windows) = scheduler.queue.take(self.max_batch) {
            let mut slots: Vec<Slot> = windows.into_iter().map(Slot::new).collect();
            // Before the results are sent, so that a caller that has one sees its batch counted.
            let metrics = &scheduler.metrics;
            metrics.batches.increment(1);
            metrics.batch_windows.record(slots.len() as f64);
            for window in slots.iter().filter_map(|slot| slot.window.as_ref()) {
                metrics.window_queue_duration.record(window.since.elapsed());
            }
            // The slots survive a panic, so that their windows fail with an error and the thread continues.
            let begun = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(|| self.batch(&mut slots)));
            scheduler.pace.add(slots.len(), begun.elapsed());
            let failure = match result {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(panic) => Some(panic_text(&*panic)),
            };
            self.sessions.decoder.release();
            if let Some(reason) = failure {
                tracing::error!(windows = slots.len(), reason, "a batch of windows failed");
                for window in slots.into_iter().filter_map(|slot| slot.window) {
                    window.fail(reason.clone());
                }
            }
        }
    }

    fn batch(&mut self, slots: &mut [Slot]) -> Result<(), Error> {
        let mut pending: Vec<usize> = (0..slots.len()).collect();
        let mut states = self.encode(slots)?;
        self.detect(slots, &mut states)?;
        for round in 0.. {
            self.attempt(slots, &pending, &mut states, round)?;
            let failed: Vec<usize> = (0..pending.len())
                .filter(|&row| slots[pending[row]].is_wanted())
                .collect();
            if failed.is_empty() {
                break;
            }
            self.sessions.decoder.keep(&mut states, &failed)?;
            pending = failed.iter().map(|&row| pending[row]).collect();
        }
        Ok(())
    }

    fn encode(&mut self, slots: &[Slot]) -> Result<States, Error> {
        let windows: Vec<&[f32]> = slots
            .iter()
            .filter_map(|slot| slot.window.as_ref())
            .map(|window| window.frames.as_slice())
            .collect();
        // Each window of a batch has its own span of the run, so that it is part of the trace of its request.
        let spans: Vec<Span> = slots
            .iter()
            .filter_map(|slot| slot.window.as_ref())
            .map(|window| {
                tracing::trace_span!(target: telemetry::SPANS, parent: &window.span, "encoder", batch.windows = windows.len())
            })
            .collect();
        let (states, time) = self.sessions.encoder.encode(&windows)?;
        drop(spans);
        self.scheduler.metrics.encoder_duration.record(time);
        Ok(states)
    }

    /// Detects the language of the windows that need it, before the batch is decoded.
    fn detect(&mut self, slots: &mut [Slot], states: &mut States) -> Result<(), Error> {
        let needs_detection =
            |slot: &Slot| slot.window.as_ref().is_some_and(|window| window.detect);
        if !slots.iter().any(needs_detection) {
            return Ok(());
        }
        let vocabulary = &self.model.vocabulary;
        let languages = detect_languages(&mut self.sessions.decoder, vocabulary, states)?;
        for (slot, language) in slots.iter_mut().zip(languages) {
            if let Some(window) = slot.window.as_mut().filter(|window| window.detect) {
                window.language = Some(vocabulary.languages[language].1);
                slot.detected = Some(language);
            }
        }
        Ok(())
    }

    /// Decodes the pending windows once, each at its temperature of this round, and sends the results of those that are done.
    fn attempt(
        &mut self,
        slots: &mut [Slot],
        pending: &[usize],
        states: &mut States,
        round: usize,
    ) -> Result<(), Error> {
        let rows: Vec<Row> = pending
            .iter()
            .filter_map(|&index| slots[index].window.as_ref())
            .map(|window| self.row(window, round))
            .collect();
        for &index in pending {
            let slot = &mut slots[index];
            if let Some(window) = &slot.window {
                slot.decoder_span = tracing::trace_span!(target: telemetry::SPANS, parent: &window.span, "decoder", batch.windows = rows.len(), round);
            }
        }
        let context = Context {
            vocabulary: &self.model.vocabulary,
            rules: &self.rules,
            text_context: self.model.dimensions.text_context,
        };
        let mut round = Round {
            scheduler: &self.scheduler,
            model: &self.model,
            slots,
            pending,
            number: round,
        };
        let begun = Instant::now();
        let tokens = decode(
            &mut self.sessions.decoder,
            &context,
            states,
            &rows,
            &mut round,
        )?;
        let metrics = &self.scheduler.metrics;
        metrics.decoder_duration.record(begun.elapsed());
        metrics.tokens.increment(tokens);
        Ok(())
    }

    fn row(&self, window: &Window, round: usize) -> Row {
        let vocabulary = &self.model.vocabulary;
        let mut prompt = Vec::with_capacity(window.prompt_length);
        if !window.preceding.is_empty() {
            prompt.extend(vocabulary.sot_prev);
            prompt.extend(&window.preceding);
        }
        let sot = prompt.len();
        prompt.extend(vocabulary.start_sequence(window.language, window.options.task));
        Row {
            prompt,
            sot,
            temperature: window.options.temperatures[round],
            beam_size: window.options.beam_size as usize,
            // Deterministic: the same recording with the same options gives the same text.
            seed: window.index << 8 | round as u64,
        }
    }
}

/// One round of decoding: checks rows as they finish, and sends the results of those that are done.
struct Round<'a> {
    scheduler: &'a Scheduler,
    model: &'a Whisper,
    slots: &'a mut [Slot],
    pending: &'a [usize],
    /// Index of its temperature.
    number: usize,
}

impl Listener for Round<'_> {
    fn is_wanted(&self, row: usize) -> bool {
        self.slots[self.pending[row]].is_wanted()
    }

    fn finished(&mut self, row: usize, result: Result<Attempt, Error>) {
        let slot = &mut self.slots[self.pending[row]];
        slot.decoder_span = Span::none();
        let Some(window) = slot.window.take() else {
            return;
        };
        let attempt = match result {
            Ok(attempt) => attempt,
            Err(error) => {
                window.fail(error.to_string());
                return;
            }
        };
        let options = &window.options;
        let failed = fallback::is_failed(&attempt, options);
        let attempt = match slot.best.take() {
            Some(best) if failed => fallback::better(best, attempt, options),
            _ => attempt,
        };
        if failed && self.number + 1 < options.temperatures.len() {
            slot.best = Some(attempt);
            slot.window = Some(window);
            return;
        }
        let seconds = window.frames.len() as f64
            / (self.model.dimensions.n_mels as f64 * self.model.dimensions.frames_per_second);
        let attempt = if fallback::is_silence(&attempt, options) {
            None
        } else if failed && seconds < SHORT && window.index > 0 {
            tracing::debug!(seconds, "no likely text in the short rest of a recording");
            None
        } else {
            Some(attempt)
        };
        self.scheduler.metrics.windows.increment(1);
        let language = slot
            .detected
            .map(|index| self.model.vocabulary.languages[index].0.clone());
        window.answer(Ok(Decoded {
            language,
            attempt,
            failed,
        }));
    }
}
