//! Options of a transcription, and their check against the model.

use crate::Error;
use crate::language;
use crate::model::Model;

/// Maximum number of decoding rounds per window; with more, one caller could keep the model from the others.
const MAX_TEMPERATURES: usize = 16;

/// Maximum bytes of the prompt. The text context of every published model is 448 tokens, of which a prompt may take half.
const MAX_PROMPT: usize = 16 << 10;

/// What the model does with the speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Task {
    /// Transcribe in the language of the speech.
    #[default]
    Transcribe,
    /// Translate into English. For multilingual models.
    Translate,
}

impl Task {
    /// Returns the name used in model files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Task::Transcribe => "transcribe",
            Task::Translate => "translate",
        }
    }
}

/// Granularity of the times in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timestamps {
    /// No times are needed. The model predicts them anyway, as it transcribes better with them, and the segments are those of
    /// [`Timestamps::Segment`].
    #[default]
    None,
    /// Segments as predicted by the model.
    Segment,
    /// The time of every word. Not supported yet: fails with [`Error::UnsupportedOption`].
    Word,
}

/// How to transcribe. [`crate::Engine::default_options`] suits most recordings.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Language of the speech: one of [`Model::languages`] or its English name, in any case, with or without a region
    /// (`en`, `German`, `pt_BR`). None, an empty string or `auto`: detected from the first window with speech.
    pub language: Option<String>,
    /// Transcribe or translate.
    pub task: Task,
    /// Text that precedes the recording. Its last tokens, at most half of the text context, are the prompt of the first window.
    pub prompt: Option<String>,
    /// Sampling temperatures, 0.0 to 1.0, tried in this order while a window's text fails a threshold.
    pub temperatures: Vec<f32>,
    /// Number of hypotheses of the beam search at temperature 0.0, and of texts sampled above it, of which the likeliest is kept.
    /// 1 is greedy decoding; at most [`crate::Config::max_batch`].
    pub beam_size: u32,
    /// Granularity of the times.
    pub timestamps: Timestamps,
    /// Whether to prompt each window with the text of those before it, at most half of the text context.
    pub condition_on_previous_text: bool,
    /// A text with a higher compression ratio counts as failed. None: not checked.
    pub compression_ratio_threshold: Option<f32>,
    /// A text with a lower mean log probability per token counts as failed. None: not checked.
    pub logprob_threshold: Option<f32>,
    /// A window with a higher no-speech probability, and a text below `logprob_threshold`, is silence. None: not checked.
    pub no_speech_threshold: Option<f32>,
}

impl Default for Options {
    /// Greedy decoding with fallback to higher temperatures and the thresholds of the Whisper paper (2.4, -1.0, 0.6).
    fn default() -> Self {
        Self {
            language: None,
            task: Task::default(),
            prompt: None,
            temperatures: vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
            beam_size: 1,
            timestamps: Timestamps::default(),
            condition_on_previous_text: false,
            compression_ratio_threshold: Some(2.4),
            logprob_threshold: Some(-1.0),
            no_speech_threshold: Some(0.6),
        }
    }
}

impl Options {
    /// Checks the options against what `model` supports, and the beam size against `max_beam`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`], [`Error::UnsupportedOption`] or [`Error::UnsupportedLanguage`].
    pub(crate) fn check(&self, model: &Model, max_beam: usize) -> Result<(), Error> {
        if self.beam_size == 0 {
            return Err(Error::InvalidOption("beam-size must be at least 1".into()));
        }
        if self.beam_size as usize > max_beam {
            return Err(Error::UnsupportedOption(format!(
                "beam-size {} is more than the {max_beam} rows that this host decodes at once (max-batch)",
                self.beam_size
            )));
        }
        if self.timestamps == Timestamps::Word {
            return Err(Error::UnsupportedOption(
                "word timestamps need cross-attention weights, which this model does not output; \
                 set timestamps to segment or none"
                    .into(),
            ));
        }
        if self.temperatures.len() > MAX_TEMPERATURES {
            return Err(Error::InvalidOption(format!(
                "{} temperatures are more than the {MAX_TEMPERATURES} that may be tried",
                self.temperatures.len()
            )));
        }
        if self
            .prompt
            .as_ref()
            .is_some_and(|prompt| prompt.len() > MAX_PROMPT)
        {
            return Err(Error::InvalidOption(format!(
                "the prompt is longer than {MAX_PROMPT} bytes; only its last few hundred words count, so shorten it"
            )));
        }
        if self.temperatures.is_empty() {
            return Err(Error::InvalidOption(
                "temperatures is empty; give at least one, e.g. 0.0".into(),
            ));
        }
        if let Some(bad) = self.temperatures.iter().find(|t| !(0.0..=1.0).contains(*t)) {
            return Err(Error::InvalidOption(format!(
                "temperature {bad} is not between 0.0 and 1.0"
            )));
        }
        for (name, value) in [
            (
                "compression-ratio-threshold",
                self.compression_ratio_threshold,
            ),
            ("logprob-threshold", self.logprob_threshold),
            ("no-speech-threshold", self.no_speech_threshold),
        ] {
            if value.is_some_and(|v| !v.is_finite()) {
                return Err(Error::InvalidOption(format!(
                    "{name} is not a finite number"
                )));
            }
        }
        language::resolve(self.language.as_deref(), &model.languages)?;
        if self.task == Task::Translate && !model.translates {
            return Err(Error::UnsupportedOption(
                "this model knows only one language and cannot translate; set task to transcribe"
                    .into(),
            ));
        }
        Ok(())
    }
}
