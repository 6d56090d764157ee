//! The transcription of one recording: frames go in, windows are cut from them one after the other, and segments come out.
//!
//! It has no task of its own: the next window is cut by the caller that pushes frames, or by the scheduler's thread when a window has
//! been decoded.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::Span;

use crate::admission::Permit;
use crate::decode::Attempt;
use crate::decode::seek::{Clock, divide};
use crate::language;
use crate::model::{Dimensions, Whisper};
use crate::scheduler::{Decoded, Recipient, Scheduler, Window};
use crate::segmentation::{Chunk, Segmenter};
use crate::{Error, Options};

/// Above this temperature, a window's text is too uncertain to be the prompt of the next one (as in the reference, where a window
/// that fails at every temperature ends with the highest).
const MAX_CONDITIONING_TEMPERATURE: f32 = 0.5;

/// A segment of the transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Start, in seconds from the start of the recording.
    pub start: f64,
    /// End, in seconds; not before the start.
    pub end: f64,
    /// Text, without leading and trailing white space. Never empty.
    pub text: String,
    /// Mean log probability (natural) of the tokens of its window.
    pub avg_logprob: f32,
    /// The model's probability that the window has no speech.
    pub no_speech_prob: f32,
    /// Length of the window's text divided by the length of its zlib stream.
    pub compression_ratio: f32,
    /// The temperature at which its window was decoded.
    pub temperature: f32,
}

/// The state of a transcription.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// Language in use; `None` before it is detected.
    pub language: Option<String>,
    /// Seconds of audio pushed.
    pub duration: f64,
    /// Windows decoded.
    pub windows: u32,
}

/// The transcription of one recording. Dropping it cancels it.
pub struct Transcription {
    stream: Arc<Stream>,
}

/// State shared by a transcription and the scheduler's thread. The transcription holds the only long-lived reference.
pub(crate) struct Stream {
    model: Arc<Whisper>,
    scheduler: Arc<Scheduler>,
    /// Maximum number of buffered frames before `push` waits.
    max_buffered: usize,
    options: Arc<Options>,
    state: Mutex<State>,
    /// Notified of a segment, the end, or a failure.
    output: Notify,
    /// Notified of room for more frames, or a failure.
    room: Notify,
    weak_self: Weak<Stream>,
    started: Instant,
    /// The parent of its windows' spans.
    span: Span,
    _permit: Permit,
}

struct State {
    /// Frames from `seek` on, `[frames, n_mels]`.
    buffer: Vec<f32>,
    /// Frame at which the next window begins.
    seek: usize,
    segmenter: Segmenter,
    /// Frames pushed so far.
    pushed: usize,
    finished: bool,
    /// Frames of the window that the scheduler has.
    in_flight: Option<usize>,
    language: Option<String>,
    /// The language of the last window with an uncertain text; detected again in the next window.
    uncertain_language: Option<String>,
    /// Tokens of the text before the next window, for its prompt.
    preceding: Vec<u32>,
    windows: u32,
    ready: VecDeque<Segment>,
    failed: Option<Error>,
    /// Whether its metrics were recorded, after the last segment.
    is_recorded: bool,
}

impl State {
    /// Sets the language detected in a window with speech. If the text is uncertain, so is the language.
    fn set_language(&mut self, language: String, uncertain: bool) {
        if uncertain {
            self.uncertain_language = Some(language);
        } else {
            self.language = Some(language);
        }
    }
}

impl Transcription {
    pub(crate) fn new(
        model: Arc<Whisper>,
        scheduler: Arc<Scheduler>,
        permit: Permit,
        max_buffered: usize,
        options: Options,
        span: Span,
    ) -> Result<Self, Error> {
        let known = &model.info.languages;
        let language = language::resolve(options.language.as_deref(), known)?
            .or((known.len() == 1).then(|| known[0].as_str()))
            .map(str::to_owned);
        let prompt = options.prompt.as_deref().map(str::trim).unwrap_or_default();
        if model.vocabulary.sot_prev.is_none()
            && (!prompt.is_empty() || options.condition_on_previous_text)
        {
            return Err(Error::UnsupportedOption(
                "this model has no token for preceding text; leave out the prompt, and do not condition on previous \
                 text"
                    .into(),
            ));
        }
        let mut preceding = Vec::new();
        if !prompt.is_empty() {
            // Text within a recording begins with a space.
            preceding = model.vocabulary.encode(&format!(" {prompt}"))?;
            keep_last(&mut preceding, &model.dimensions);
        }
        let stream = Arc::new_cyclic(|weak_self| Stream {
            options: Arc::new(options),
            state: Mutex::new(State {
                buffer: Vec::new(),
                seek: 0,
                segmenter: Segmenter::new(&model.dimensions),
                pushed: 0,
                finished: false,
                in_flight: None,
                language,
                uncertain_language: None,
                preceding,
                windows: 0,
                ready: VecDeque::new(),
                failed: None,
                is_recorded: false,
            }),
            output: Notify::new(),
            room: Notify::new(),
            weak_self: Weak::clone(weak_self),
            started: Instant::now(),
            span,
            model,
            scheduler,
            max_buffered,
            _permit: permit,
        });
        Ok(Self { stream })
    }

    /// Pushes the next frames: `[frames, n_mels]`, row-major, log10 of the mel power, not normalised. Waits while the buffer is full.
    ///
    /// # Errors
    /// [`Error::InvalidFrames`], [`Error::InvalidState`] after `finish`, or the failure of an earlier window.
    pub async fn push(&self, frames: Vec<f32>) -> Result<(), Error> {
        let stream = &self.stream;
        let n_mels = stream.model.dimensions.n_mels;
        if !frames.len().is_multiple_of(n_mels) {
            return Err(Error::InvalidFrames(format!(
                "{} values are not whole rows of {n_mels} mel bins",
                frames.len()
            )));
        }
        // Up to a window of the buffered frames may be waiting for more.
        let most = stream.max_buffered - stream.model.dimensions.window;
        if frames.len() > most * n_mels {
            return Err(Error::InvalidFrames(format!(
                "{} frames at once are more than the {most} allowed; push fewer at a time",
                frames.len() / n_mels,
            )));
        }
        if let Some(bad) = frames.iter().position(|value| !value.is_finite()) {
            return Err(Error::InvalidFrames(format!(
                "value {bad} is {}, not a finite number",
                frames[bad]
            )));
        }
        loop {
            // Registered before the state is checked, so that no notification in between is missed.
            let mut room = pin!(stream.room.notified());
            room.as_mut().enable();
            {
                let mut state = stream.state.lock();
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
                if state.finished {
                    return Err(Error::InvalidState("push after finish".into()));
                }
                if state.buffer.len() + frames.len() <= stream.max_buffered * n_mels {
                    let count = frames.len() / n_mels;
                    state.pushed += count;
                    let metrics = &stream.scheduler.metrics;
                    metrics.frames_pushed.increment(count as u64);
                    state.buffer.extend_from_slice(&frames);
                    stream.schedule_next(&mut state);
                    return Ok(());
                }
            }
            room.await;
        }
    }

    /// Signals that no more frames follow.
    ///
    /// # Errors
    /// [`Error::InvalidState`] if called twice.
    pub fn finish(&self) -> Result<(), Error> {
        let mut state = self.stream.state.lock();
        if state.finished {
            return Err(Error::InvalidState("finish called twice".into()));
        }
        state.finished = true;
        self.stream.schedule_next(&mut state);
        Ok(())
    }

    /// Waits for the next segment; returns `None` after the last.
    ///
    /// # Errors
    /// [`Error::InvalidState`] if there is nothing to wait for until more frames are pushed or `finish` is called; or the
    /// failure of a window.
    pub async fn next(&self) -> Result<Option<Segment>, Error> {
        let stream = &self.stream;
        loop {
            let mut output = pin!(stream.output.notified());
            output.as_mut().enable();
            {
                let mut state = stream.state.lock();
                if let Some(segment) = state.ready.pop_front() {
                    return Ok(Some(segment));
                }
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
                if state.in_flight.is_none() {
                    return if state.finished {
                        stream.record(&mut state);
                        Ok(None)
                    } else {
                        Err(Error::InvalidState(
                            "next before finish, and no segments of the windows pushed so far are left; push more \
                             frames, or finish"
                                .into(),
                        ))
                    };
                }
            }
            output.await;
        }
    }

    /// Returns how many seconds of the audio pushed are decoded.
    pub fn decoded(&self) -> f64 {
        let state = self.stream.state.lock();
        let frames = state.seek.min(state.pushed);
        frames as f64 / self.stream.model.dimensions.frames_per_second
    }

    /// Returns the current state.
    pub fn info(&self) -> Info {
        let state = self.stream.state.lock();
        Info {
            language: state
                .language
                .as_ref()
                .or(state.uncertain_language.as_ref())
                .cloned(),
            duration: state.pushed as f64 / self.stream.model.dimensions.frames_per_second,
            windows: state.windows,
        }
    }
}

impl Recipient for Stream {
    /// Takes the result of the window in flight, and cuts the next.
    fn complete(&self, result: Result<Decoded, Error>) {
        let mut state = self.state.lock();
        let Some(frames) = state.in_flight.take() else {
            return;
        };
        state.windows += 1;
        match result.and_then(|decoded| self.read(&mut state, frames, decoded)) {
            Ok(advance) => {
                self.consume(&mut state, advance);
                self.schedule_next(&mut state);
            }
            Err(error) => self.fail(&mut state, error),
        }
        self.output.notify_waiters();
    }
}

impl Stream {
    /// Turns a decoded window into segments, and returns how many frames to advance.
    fn read(&self, state: &mut State, frames: usize, decoded: Decoded) -> Result<usize, Error> {
        let Some(attempt) = decoded.attempt else {
            return Ok(frames);
        };
        let vocabulary = &self.model.vocabulary;
        let clock = Clock {
            timestamp_begin: vocabulary.timestamp_begin,
            frames_per_timestamp: self.model.dimensions.frames_per_timestamp(),
        };
        let (pieces, advance) = divide(&attempt.tokens, frames, clock);
        let keeps_text = self.options.condition_on_previous_text
            && !decoded.failed
            && attempt.temperature <= MAX_CONDITIONING_TEMPERATURE;
        if !keeps_text {
            state.preceding.clear();
        }
        let mut language = decoded.language;
        for piece in pieces {
            let text = vocabulary.decode(&piece.tokens)?;
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            if let Some(language) = language.take() {
                state.set_language(language, decoded.failed);
            }
            if keeps_text {
                // With its timestamps: after a text without any, the model leaves them out as well.
                state.preceding.extend(&piece.tokens);
            }
            state.ready.push_back(self.segment(
                text,
                state.seek + piece.frames.start,
                state.seek + piece.frames.end,
                &attempt,
            ));
        }
        keep_last(&mut state.preceding, &self.model.dimensions);
        Ok(advance)
    }

    fn segment(&self, text: &str, start: usize, end: usize, attempt: &Attempt) -> Segment {
        let rate = self.model.dimensions.frames_per_second;
        Segment {
            start: start as f64 / rate,
            end: end as f64 / rate,
            text: text.to_owned(),
            avg_logprob: attempt.avg_logprob,
            no_speech_prob: attempt.no_speech_prob,
            compression_ratio: attempt.compression_ratio,
            temperature: attempt.temperature,
        }
    }

    /// Submits the next window to the scheduler, if none is in flight and there are enough frames.
    fn schedule_next(&self, state: &mut State) {
        while state.in_flight.is_none() && state.failed.is_none() {
            let frames = match state.segmenter.next(&state.buffer, state.finished) {
                Some(Chunk::Speech(frames)) => frames,
                Some(Chunk::Silence(frames)) => {
                    // After a long silence, the model would only repeat the text before it.
                    state.preceding.clear();
                    self.consume(state, frames);
                    continue;
                }
                Some(Chunk::TooShort(frames)) => {
                    self.consume(state, frames);
                    continue;
                }
                None => return,
            };
            let values = &state.buffer[..frames * self.model.dimensions.n_mels];
            let window = self.window(state, values.to_vec());
            state.in_flight = Some(frames);
            if let Err(error) = self.scheduler.submit(window) {
                self.fail(state, error);
            }
        }
    }

    fn window(&self, state: &State, frames: Vec<f32>) -> Window {
        let vocabulary = &self.model.vocabulary;
        let language = state
            .language
            .as_deref()
            .and_then(|code| vocabulary.language(code));
        let detect = state.language.is_none();
        let preceding = state.preceding.clone();
        // Every language is one token, so the length is known before detection.
        let any = language.or_else(|| vocabulary.languages.first().map(|(_, token)| *token));
        let start = vocabulary.start_sequence(any, self.options.task);
        let sot_prev = usize::from(!preceding.is_empty());
        let span = tracing::trace_span!(
            target: telemetry::SPANS,
            parent: &self.span,
            "window",
            index = state.windows,
        );
        Window {
            since: Instant::now(),
            prompt_length: sot_prev + preceding.len() + start.len(),
            frames,
            preceding,
            language,
            detect,
            index: u64::from(state.windows),
            options: Arc::clone(&self.options),
            reply: self.weak_self.clone(),
            queue_span: tracing::trace_span!(target: telemetry::SPANS, parent: &span, "queue"),
            span,
        }
    }

    /// Records the completed transcription, once.
    fn record(&self, state: &mut State) {
        if std::mem::replace(&mut state.is_recorded, true) {
            return;
        }
        let duration = self.started.elapsed();
        let audio = state.pushed as f64 / self.model.dimensions.frames_per_second;
        let metrics = &self.scheduler.metrics;
        metrics.transcription_duration.record(duration);
        metrics.audio_duration.record(audio);
        if audio > 0.0 {
            let factor = duration.as_secs_f64() / audio;
            metrics.real_time_factor.record(factor);
        }
    }

    /// Advances by `frames`, and drops them from the buffer.
    fn consume(&self, state: &mut State, frames: usize) {
        state.seek += frames;
        self.scheduler.metrics.frames_done.increment(frames as u64);
        state.buffer.drain(..frames * self.model.dimensions.n_mels);
        self.room.notify_waiters();
    }

    fn fail(&self, state: &mut State, error: Error) {
        state.in_flight = None;
        state.failed = Some(error);
        state.buffer = Vec::new();
        self.room.notify_waiters();
    }
}

/// Keeps only the last tokens of the preceding text: half of the text context, less the token that marks their start.
fn keep_last(preceding: &mut Vec<u32>, dimensions: &Dimensions) {
    let surplus = preceding
        .len()
        .saturating_sub(dimensions.text_context / 2 - 1);
    preceding.drain(..surplus);
}
