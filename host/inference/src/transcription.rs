//! One recording on its way through the model: frames go in, windows are cut from them one after the other, and
//! segments come out.
//!
//! No task of its own: whoever pushes frames, or the scheduler's thread when a window is decoded, cuts the next window.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::Span;

use crate::admission::Permit;
use crate::decode::Attempt;
use crate::decode::seek::{Clock, divide};
use crate::language;
use crate::model::{Dimensions, Whisper};
use crate::scheduler::{Decoded, Recipient, Scheduler, Window};
use crate::segmentation::{Segmenter, Stretch};
use crate::{Error, Options};

/// Above this temperature a window's text is too doubtful to go before the next one (as in the reference, where a window
/// that fails at every temperature ends with the highest).
const MAX_CONDITIONING_TEMPERATURE: f32 = 0.5;

/// A stretch of speech.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Start, in seconds from the start of the recording.
    pub start: f64,
    /// End; not before the start.
    pub end: f64,
    /// What was said, without white space at the ends. Never empty.
    pub text: String,
    /// Mean natural-log probability of the tokens of its window.
    pub avg_logprob: f32,
    /// The model's probability that the window held no speech.
    pub no_speech_prob: f32,
    /// Length of the window's text over the length of its zlib stream.
    pub compression_ratio: f32,
    /// The temperature its window was decoded with.
    pub temperature: f32,
}

/// What is known of a transcription so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// Language in use; none before it is detected.
    pub language: Option<String>,
    /// Seconds of audio pushed.
    pub duration: f64,
    /// Windows decoded.
    pub windows: u32,
}

/// One recording. Dropping it cancels its work.
pub struct Transcription {
    stream: Arc<Stream>,
}

/// What a transcription and the scheduler's thread share. The transcription holds the only lasting reference.
pub(crate) struct Stream {
    model: Arc<Whisper>,
    scheduler: Arc<Scheduler>,
    /// Frames kept before `push` waits.
    max_buffered: usize,
    options: Arc<Options>,
    state: Mutex<State>,
    /// A segment, the end, or a failure.
    output: Notify,
    /// Room for more frames, or a failure.
    room: Notify,
    itself: Weak<Stream>,
    /// Where it was started: parent of the spans of its windows.
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
    /// Frames of the window that is with the scheduler.
    in_flight: Option<usize>,
    language: Option<String>,
    /// The language of the last window whose text was doubtful; asked again in the next.
    doubtful_language: Option<String>,
    /// Tokens that go before the next window's text.
    preceding: Vec<u32>,
    windows: u32,
    ready: VecDeque<Segment>,
    failed: Option<Error>,
}

impl State {
    /// Take the language that was detected in a window with speech. Where the text is doubtful, so is the language.
    fn hear(&mut self, language: String, doubtful: bool) {
        if doubtful {
            self.doubtful_language = Some(language);
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
            // Text inside a recording begins with a space.
            preceding = model.vocabulary.encode(&format!(" {prompt}"))?;
            keep_last(&mut preceding, &model.dimensions);
        }
        let stream = Arc::new_cyclic(|itself| Stream {
            options: Arc::new(options),
            state: Mutex::new(State {
                buffer: Vec::new(),
                seek: 0,
                segmenter: Segmenter::new(&model.dimensions),
                pushed: 0,
                finished: false,
                in_flight: None,
                language,
                doubtful_language: None,
                preceding,
                windows: 0,
                ready: VecDeque::new(),
                failed: None,
            }),
            output: Notify::new(),
            room: Notify::new(),
            itself: Weak::clone(itself),
            span: Span::current(),
            model,
            scheduler,
            max_buffered,
            _permit: permit,
        });
        Ok(Self { stream })
    }

    /// Hand over the next frames: `[frames, n_mels]`, row-major, log10 of the mel power, not normalised. Waits while
    /// as many frames as the engine keeps for one recording are not decoded yet.
    ///
    /// # Errors
    /// [`Error::InvalidFrames`], [`Error::InvalidState`] after `finish`, or the failure of a window before.
    pub async fn push(&self, frames: Vec<f32>) -> Result<(), Error> {
        let stream = &self.stream;
        let n_mels = stream.model.dimensions.n_mels;
        if !frames.len().is_multiple_of(n_mels) {
            return Err(Error::InvalidFrames(format!(
                "{} values are not whole rows of {n_mels} mel bins",
                frames.len()
            )));
        }
        // Of what is kept, up to a window may be waiting for more.
        let most = stream.max_buffered - stream.model.dimensions.window;
        if frames.len() > most * n_mels {
            return Err(Error::InvalidFrames(format!(
                "{} frames at once are more than the {most} that are taken; push fewer at a time",
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
            // Registered before the state is looked at, or a notification in between would be missed.
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
                    stream.advance(&mut state);
                    return Ok(());
                }
            }
            room.await;
        }
    }

    /// Say that no more frames come.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when called twice.
    pub fn finish(&self) -> Result<(), Error> {
        let mut state = self.stream.state.lock();
        if state.finished {
            return Err(Error::InvalidState("finish after finish".into()));
        }
        state.finished = true;
        self.stream.advance(&mut state);
        Ok(())
    }

    /// The next segment, none after the last. Waits until it is ready.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when there is nothing to wait for because more frames, or `finish`, are due; or the
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
                        Ok(None)
                    } else {
                        Err(Error::InvalidState(
                            "next before finish, and no segment is left of the windows pushed so far; push more \
                             frames, or finish"
                                .into(),
                        ))
                    };
                }
            }
            output.await;
        }
    }

    /// What is known so far.
    pub fn info(&self) -> Info {
        let state = self.stream.state.lock();
        Info {
            language: state
                .language
                .as_ref()
                .or(state.doubtful_language.as_ref())
                .cloned(),
            duration: state.pushed as f64 / self.stream.model.dimensions.frames_per_second,
            windows: state.windows,
        }
    }
}

impl Recipient for Stream {
    /// Take the answer to the window in flight, and cut the next.
    fn complete(&self, result: Result<Decoded, Error>) {
        let mut state = self.state.lock();
        let Some(frames) = state.in_flight.take() else {
            return;
        };
        state.windows += 1;
        match result.and_then(|decoded| self.read(&mut state, frames, decoded)) {
            Ok(advance) => {
                self.go_on(&mut state, advance);
                self.advance(&mut state);
            }
            Err(error) => self.fail(&mut state, error),
        }
        self.output.notify_waiters();
    }
}

impl Stream {
    /// Make segments of a decoded window, and say how many frames to go on by.
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
                state.hear(language, decoded.failed);
            }
            if keeps_text {
                // With its time stamps: after a text without, the model leaves them out, too.
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

    /// Hand the next window to the scheduler, if none is with it and there are frames enough.
    fn advance(&self, state: &mut State) {
        while state.in_flight.is_none() && state.failed.is_none() {
            let frames = match state.segmenter.next(&state.buffer, state.finished) {
                Some(Stretch::Speech(frames)) => frames,
                Some(Stretch::Silence(frames)) => {
                    // So long after it, what was said before would only be said again.
                    state.preceding.clear();
                    self.go_on(state, frames);
                    continue;
                }
                Some(Stretch::Rest(frames)) => {
                    self.go_on(state, frames);
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
        // Any language's token is as long as any other's, so the length is known before detection.
        let any = language.or_else(|| vocabulary.languages.first().map(|(_, token)| *token));
        let start = vocabulary.start_sequence(any, self.options.task);
        let announced = usize::from(!preceding.is_empty());
        Window {
            prompt_length: announced + preceding.len() + start.len(),
            frames,
            preceding,
            language,
            detect,
            index: u64::from(state.windows),
            options: Arc::clone(&self.options),
            reply: self.itself.clone(),
            span: tracing::trace_span!(
                target: telemetry::SPANS,
                parent: &self.span,
                "window",
                index = state.windows,
            ),
        }
    }

    /// Go on by `frames`, and forget those before.
    fn go_on(&self, state: &mut State, frames: usize) {
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

/// Of the tokens that go before a window's text, those there is room for: half of the text context, less the token that
/// announces them.
fn keep_last(preceding: &mut Vec<u32>, dimensions: &Dimensions) {
    let surplus = preceding
        .len()
        .saturating_sub(dimensions.text_context / 2 - 1);
    preceding.drain(..surplus);
}
