//! The engine: one loaded model and the thread that runs it.

use std::sync::Arc;
use std::thread::JoinHandle;

use tracing::Span;

use crate::admission::Admission;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::model::{Contents, Model, Vocabulary, Whisper};
use crate::scheduler::{Scheduler, Worker};
use crate::session;
use crate::transcription::Transcription;
use crate::{Error, LoadError, Options};

/// One loaded model. Dropping it ends its thread; unfinished transcriptions fail.
pub struct Engine {
    model: Arc<Whisper>,
    scheduler: Arc<Scheduler>,
    admission: Arc<Admission>,
    /// Maximum number of hypotheses of a window.
    max_beam: usize,
    /// Maximum number of buffered frames of one transcription before `push` waits.
    max_buffered: usize,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Loads a model and starts its thread. Blocks while it loads.
    ///
    /// # Errors
    /// [`LoadError`], with the file and the field.
    pub fn load(config: Config) -> Result<Self, LoadError> {
        config.check()?;
        let contents = Contents::read(&config.model, config.precision)?;
        let loaded = session::load(&config, &contents)?;
        let Contents {
            dimensions,
            vocabulary,
            ..
        } = contents;
        if dimensions.beam_size > config.max_batch {
            tracing::warn!(
                num_beams = dimensions.beam_size,
                max_batch = config.max_batch,
                "the model's beam size is larger than the maximum batch; it is reduced"
            );
        }
        let info = Model {
            n_mels: dimensions.n_mels,
            frames_per_second: dimensions.frames_per_second,
            window: dimensions.window_seconds(),
            languages: language_codes(&vocabulary),
            translates: vocabulary.translates(),
            beam_size: u32::try_from(dimensions.beam_size.min(config.max_batch))
                .unwrap_or(u32::MAX),
            precision: loaded.precision,
            files: loaded.files,
            device: loaded.device,
        };
        tracing::info!(
            folder = %config.model.display(),
            files = ?info.files,
            device = info.device,
            languages = info.languages.len(),
            "model loaded"
        );
        let max_buffered = (config.max_buffered_seconds * dimensions.frames_per_second) as usize;
        let max_buffered = max_buffered.max(2 * dimensions.window);
        let model = Arc::new(Whisper {
            info,
            dimensions,
            vocabulary,
        });
        let metrics = Metrics::new(&config.name);
        let admission = Admission::new(config.max_queue, metrics.transcriptions_active.clone());
        let scheduler = Arc::new(Scheduler::new(metrics));
        let max_batch = if loaded.batches { config.max_batch } else { 1 };
        let worker = Worker::new(
            Arc::clone(&scheduler),
            Arc::clone(&model),
            max_batch,
            loaded.sessions,
        );
        let thread = std::thread::Builder::new()
            .name("inference".into())
            .spawn(move || worker.run())
            .map_err(|error| LoadError::Config {
                name: "threads",
                problem: format!("the inference thread cannot be started: {error}"),
            })?;
        Ok(Self {
            model,
            scheduler,
            admission: Arc::new(admission),
            max_beam: config.max_batch,
            max_buffered,
            thread: Some(thread),
        })
    }

    /// Returns information on the loaded model.
    pub fn model(&self) -> &Model {
        &self.model.info
    }

    /// Returns options that suit most recordings: [`Options::default`] with the model's own beam size. Windows are prompted with the
    /// text of those before, unless the model's `generation_config.json` has `condition_on_prev_tokens: false` or the model has no token
    /// for preceding text; all of OpenAI's have one.
    pub fn default_options(&self) -> Options {
        let model = &self.model;
        Options {
            beam_size: model.info.beam_size,
            condition_on_previous_text: model.dimensions.condition_on_previous_text
                && model.vocabulary.sot_prev.is_some(),
            ..Options::default()
        }
    }

    /// Returns whether everything that it was given is being worked on: nothing waits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.scheduler.is_idle()
    }

    /// Starts the transcription of a recording.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if `max_queue` transcriptions are in progress, and every error about options.
    pub fn start(&self, options: Options) -> Result<Transcription, Error> {
        self.start_within(options, Span::none())
    }

    /// The same, with the parent of the spans of its windows.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_within(&self, options: Options, span: Span) -> Result<Transcription, Error> {
        options.check(&self.model.info, self.max_beam)?;
        let permit = self.admission.acquire().ok_or_else(|| Error::Overloaded {
            retry_after: self.retry_after(),
        })?;
        Transcription::new(
            Arc::clone(&self.model),
            Arc::clone(&self.scheduler),
            permit,
            self.max_buffered,
            options,
            span,
        )
    }

    /// Returns the estimated seconds until the waiting windows are decoded; at least 1.
    fn retry_after(&self) -> u32 {
        self.scheduler.backlog().ceil().max(1.0) as u32
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.scheduler.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the inference thread panicked");
        }
    }
}

/// Returns the supported languages: those with tokens, or English for a model without language tokens, as in the published
/// monolingual ones.
fn language_codes(vocabulary: &Vocabulary) -> Vec<String> {
    if vocabulary.languages.is_empty() {
        return vec!["en".into()];
    }
    vocabulary
        .languages
        .iter()
        .map(|(code, _)| code.clone())
        .collect()
}
