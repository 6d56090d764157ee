//! The engine: one loaded model and the thread that runs it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;

use crate::model::{Contents, Model, Precision, Sizes, Vocabulary};
use crate::scheduler::{Counters, Metrics, Queue, Window, Worker};
use crate::session;
use crate::transcription::Transcription;
use crate::{Error, LoadError, Options};

/// What the model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// CUDA where the library offers it and it works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA, or an error.
    Cuda,
}

/// How to load a model and how much to take on.
#[derive(Debug, Clone)]
pub struct Config {
    /// The model's folder.
    pub model: PathBuf,
    /// ONNX Runtime's shared library, 1.31 or newer. A process loads one: later engines use the first one's.
    pub library: PathBuf,
    /// What to run on.
    pub device: Device,
    /// What to compute with, and so which ONNX files to use.
    pub precision: Precision,
    /// Where quantised weights are kept, so that the next start maps them; none: every start makes them again.
    pub cache: Option<PathBuf>,
    /// Threads for one operation; at least 1.
    pub threads: usize,
    /// Most rows decoded at once; at least 1. A window takes as many as its beam search has hypotheses. ONNX files of
    /// int8 and uint8 are always decoded one window at a time: in a batch a window's text would depend on its neighbours.
    pub max_batch: usize,
    /// Most transcriptions in progress; at least 1. Each has at most one window in the queue. Beyond, `start` fails
    /// with [`Error::Overloaded`].
    pub max_queue: usize,
    /// Most seconds of frames kept for one transcription, at least two windows; beyond, `push` waits. One push may have a
    /// window less.
    pub max_buffered_seconds: f64,
}

impl Config {
    /// The defaults: device and precision by themselves, a thread per core, batches of 8 rows, 64 transcriptions, 4 minutes.
    pub fn new(model: impl Into<PathBuf>, library: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            library: library.into(),
            device: Device::default(),
            precision: Precision::default(),
            cache: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            max_batch: 8,
            max_queue: 64,
            max_buffered_seconds: 240.0,
        }
    }

    fn check(&self) -> Result<(), LoadError> {
        for (name, value) in [
            ("threads", self.threads),
            ("max_batch", self.max_batch),
            ("max_queue", self.max_queue),
        ] {
            if value == 0 {
                return Err(LoadError::Config {
                    name,
                    problem: "is 0, expected at least 1".into(),
                });
            }
        }
        if !self.max_buffered_seconds.is_finite() || self.max_buffered_seconds <= 0.0 {
            return Err(LoadError::Config {
                name: "max_buffered_seconds",
                problem: format!("is {}, expected seconds above 0", self.max_buffered_seconds),
            });
        }
        Ok(())
    }
}

/// One loaded model. Dropping it ends its thread; transcriptions that are not done fail.
pub struct Engine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the engine, its thread and its transcriptions have in common.
pub(crate) struct Shared {
    pub model: Model,
    pub sizes: Sizes,
    pub vocabulary: Vocabulary,
    pub queue: Queue<Window>,
    pub counters: Counters,
    /// Most rows of a batch; 1 where windows are decoded one by one.
    pub max_batch: usize,
    /// Most hypotheses of a window.
    pub max_beam: usize,
    /// Frames kept for one transcription before `push` waits.
    pub max_buffered: usize,
    max_queue: usize,
    in_progress: AtomicUsize,
}

/// The right to be one of the transcriptions in progress.
pub(crate) struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Relaxed);
    }
}

impl Engine {
    /// Load a model and start its thread. Blocks for as long as loading takes.
    ///
    /// # Errors
    /// [`LoadError`], which names the file and the field.
    pub fn load(config: Config) -> Result<Self, LoadError> {
        config.check()?;
        let contents = Contents::read(&config.model, config.precision)?;
        let loaded = session::load(&config, &contents)?;
        let Contents {
            sizes, vocabulary, ..
        } = contents;
        if sizes.beam_size > config.max_batch {
            tracing::warn!(
                num_beams = sizes.beam_size,
                max_batch = config.max_batch,
                "the model's own beam search is wider than a batch may be; it is narrowed"
            );
        }
        let model = Model {
            n_mels: sizes.n_mels,
            frames_per_second: sizes.frames_per_second,
            window: sizes.window_seconds(),
            languages: language_codes(&vocabulary),
            translates: vocabulary.translates(),
            beam_size: u32::try_from(sizes.beam_size.min(config.max_batch)).unwrap_or(u32::MAX),
            precision: loaded.precision,
            files: loaded.files,
            device: loaded.device,
        };
        tracing::info!(
            folder = %config.model.display(),
            files = ?model.files,
            device = model.device,
            languages = model.languages.len(),
            "model loaded"
        );
        let max_buffered = (config.max_buffered_seconds * sizes.frames_per_second) as usize;
        let shared = Arc::new(Shared {
            max_batch: if loaded.batches { config.max_batch } else { 1 },
            max_beam: config.max_batch,
            max_buffered: max_buffered.max(2 * sizes.window),
            max_queue: config.max_queue,
            model,
            sizes,
            vocabulary,
            queue: Queue::new(),
            counters: Counters::default(),
            in_progress: AtomicUsize::new(0),
        });
        let worker = Worker::new(Arc::clone(&shared), loaded.sessions);
        let thread = std::thread::Builder::new()
            .name("inference".into())
            .spawn(move || worker.run())
            .map_err(|error| LoadError::Config {
                name: "threads",
                problem: format!("the system gives no thread: {error}"),
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// What is loaded.
    pub fn model(&self) -> &Model {
        &self.shared.model
    }

    /// The options that suit most recordings: [`Options::default`], with the model's own width of the beam search.
    /// A window is given the text of those before it, unless the model's `generation_config.json` says `condition_on_prev_tokens: false`
    /// or the model has no token for preceding text; all of OpenAI's have it.
    pub fn default_options(&self) -> Options {
        let shared = &self.shared;
        Options {
            beam_size: shared.model.beam_size,
            condition_on_previous_text: shared.sizes.condition_on_previous_text
                && shared.vocabulary.sot_prev.is_some(),
            ..Options::default()
        }
    }

    /// Start to transcribe a recording.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when as many as `max_queue` are in progress, and every error about options.
    pub fn start(&self, options: Options) -> Result<Transcription, Error> {
        options.check(&self.shared.model, self.shared.max_beam)?;
        let place = self.place()?;
        Transcription::new(Arc::clone(&self.shared), place, options)
    }

    fn place(&self) -> Result<Place, Error> {
        let shared = &self.shared;
        shared
            .in_progress
            .try_update(Relaxed, Relaxed, |count| {
                (count < shared.max_queue).then_some(count + 1)
            })
            .map(|_| Place(Arc::clone(shared)))
            .map_err(|_| Error::Overloaded {
                retry_after: self.retry_after(),
            })
    }

    /// Seconds until the windows that wait now are decoded, by the mean so far; at least 1.
    fn retry_after(&self) -> u32 {
        let metrics = self.metrics();
        let busy = metrics.encoder_seconds + metrics.decoder_seconds;
        let per_window = busy / metrics.windows.max(1) as f64;
        (per_window * metrics.queued_windows as f64).ceil().max(1.0) as u32
    }

    /// What the engine has done so far.
    pub fn metrics(&self) -> Metrics {
        self.shared.counters.snapshot(
            self.shared.in_progress.load(Relaxed),
            self.shared.queue.len(),
            self.shared.sizes.frames_per_second,
        )
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for window in self.shared.queue.close() {
            window.answer(Err(Error::Internal("the engine has been shut down".into())));
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the inference thread ended with a panic");
        }
    }
}

/// The languages a caller may name: those with tokens, or English for a model without any, which is what the
/// published ones of one language know.
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
