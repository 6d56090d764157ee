//! The vocabulary: the special tokens used in decoding, and the conversion between text and tokens.

use std::path::Path;

use tokenizers::Tokenizer;

use super::config::Dimensions;
use super::json::JsonFile;
use super::tokenizer;
use crate::options::Task;
use crate::{Error, LoadError};

/// A Whisper model with at least this many tokens is multilingual (`is_multilingual` in `model.py` of the reference).
const MULTILINGUAL_VOCABULARY: usize = 51_865;

/// The fields that list tokens that are never sampled, and tokens that are not sampled first.
const SUPPRESS: [&str; 2] = ["suppress_tokens", "begin_suppress_tokens"];
const SUPPRESS_CTRANSLATE2: [&str; 2] = ["suppress_ids", "suppress_ids_begin"];

/// The first timestamp is at most 1.00 s (`max_initial_timestamp` of the reference), in steps of 0.02 s.
const MAX_INITIAL_TIMESTAMP: u32 = 50;

/// Length of the longest language code; task names are longer.
const MAX_CODE_LENGTH: usize = 3;

/// A model's tokens. Ids from `timestamp_begin` on are timestamps, one per step.
pub(crate) struct Vocabulary {
    tokenizer: Tokenizer,
    /// End of the window's text.
    pub eot: u32,
    /// Start of the transcript.
    pub sot: u32,
    /// Start of the text that precedes the window, if the model has a token for it.
    pub sot_prev: Option<u32>,
    /// Marks a window without speech, if the model has a token for it.
    pub no_speech: Option<u32>,
    /// Marks a transcript without timestamps.
    pub no_timestamps: u32,
    /// The timestamp 0.00.
    pub timestamp_begin: u32,
    /// Language codes with their tokens; empty for a monolingual model without language tokens.
    pub languages: Vec<(String, u32)>,
    tasks: Vec<(String, u32)>,
    /// Never sampled.
    pub suppress: Vec<u32>,
    /// Never sampled first.
    pub begin_suppress: Vec<u32>,
    /// The first timestamp is at most this many steps after 0.00.
    pub max_initial_timestamp: Option<u32>,
}

impl Vocabulary {
    /// Reads the vocabulary of ONNX files from `generation_config.json`.
    pub fn from_onnx(folder: &Path, dimensions: &Dimensions) -> Result<Self, LoadError> {
        let generation = JsonFile::open(folder, "generation_config.json")?;
        Self::read(folder, dimensions, &generation, SUPPRESS)
    }

    /// Reads the vocabulary of a transformers model from `generation_config.json`, or from `config.json` in older models.
    pub fn from_transformers(folder: &Path, dimensions: &Dimensions) -> Result<Self, LoadError> {
        let generation = JsonFile::optional(folder, "generation_config.json")?;
        let vocabulary = if generation.has("decoder_start_token_id") {
            Self::read(folder, dimensions, &generation, SUPPRESS)?
        } else {
            let config = JsonFile::open(folder, "config.json")?;
            Self::read(folder, dimensions, &config, SUPPRESS)?
        };
        vocabulary.check_size(folder, dimensions)?;
        Ok(vocabulary)
    }

    /// Reads the vocabulary of a faster-whisper model: suppressed tokens from `config.json`, the rest from the tokens' names.
    pub fn from_ctranslate2(
        folder: &Path,
        dimensions: &Dimensions,
        config: &JsonFile,
    ) -> Result<Self, LoadError> {
        let vocabulary = Self::read(folder, dimensions, config, SUPPRESS_CTRANSLATE2)?;
        vocabulary.check_size(folder, dimensions)?;
        Ok(vocabulary)
    }

    fn read(
        folder: &Path,
        dimensions: &Dimensions,
        generation: &JsonFile,
        [suppress, begin_suppress]: [&str; 2],
    ) -> Result<Self, LoadError> {
        let tokenizer = tokenizer::open(folder)?;
        let special = |field: &str, names: &[&str]| -> Result<Option<u32>, LoadError> {
            let in_tokenizer = names.iter().find_map(|name| tokenizer.token_to_id(name));
            Ok(generation.token(field)?.or(in_tokenizer))
        };
        let required = |field: &str, names: &[&str]| -> Result<u32, LoadError> {
            special(field, names)?.ok_or_else(|| {
                generation.error(
                    field,
                    format!("is missing, and the tokenizer has no token `{}`", names[0]),
                )
            })
        };

        let no_timestamps = required("no_timestamps_token_id", &["<|notimestamps|>"])?;
        let sot = required("decoder_start_token_id", &["<|startoftranscript|>"])?;
        let mut tasks = generation.token_map("task_to_id")?;
        if tasks.is_empty() {
            let named = [Task::Transcribe, Task::Translate].map(|task| {
                let id = tokenizer.token_to_id(&format!("<|{}|>", task.name()))?;
                Some((task.name().to_owned(), id))
            });
            tasks.extend(named.into_iter().flatten());
        }
        let vocabulary = Self {
            eot: required("eos_token_id", &["<|endoftext|>"])?,
            sot,
            sot_prev: special("prev_sot_token_id", &["<|startofprev|>"])?,
            no_speech: ["<|nospeech|>", "<|nocaptions|>"]
                .iter()
                .find_map(|name| tokenizer.token_to_id(name)),
            no_timestamps,
            timestamp_begin: no_timestamps.saturating_add(1),
            languages: languages(generation, &tokenizer, sot, dimensions)?,
            tasks,
            suppress: generation.tokens(suppress)?,
            begin_suppress: generation.tokens(begin_suppress)?,
            max_initial_timestamp: generation
                .token("max_initial_timestamp_index")?
                .or(Some(MAX_INITIAL_TIMESTAMP)),
            tokenizer,
        };
        vocabulary.check(generation, dimensions)?;
        Ok(vocabulary)
    }

    /// Checks that the tokenizer belongs to the weights: in every Whisper model the timestamps are the last tokens, apart from added
    /// tokens and padding rows.
    fn check_size(&self, folder: &Path, dimensions: &Dimensions) -> Result<(), LoadError> {
        let stamps_end = self.timestamp_begin as usize + dimensions.positions + 1;
        let known = stamps_end.max(self.tokenizer.get_vocab_size(true));
        let is_padded = dimensions.vocabulary > known && dimensions.vocabulary.is_multiple_of(8);
        if dimensions.vocabulary == known || is_padded {
            return Ok(());
        }
        Err(LoadError::Folder {
            folder: folder.to_owned(),
            what: format!(
                "the tokenizer has {known} tokens with its timestamps, but the weights have {}: it belongs to another model; copy \
                 the tokenizer's files there from the source of the weights",
                dimensions.vocabulary
            ),
        })
    }

    fn check(&self, generation: &JsonFile, dimensions: &Dimensions) -> Result<(), LoadError> {
        let listed = |field: &'static str, ids: &[u32]| -> Vec<(&'static str, u32)> {
            ids.iter().map(|&id| (field, id)).collect()
        };
        let mut used = vec![
            ("eos_token_id", self.eot),
            ("decoder_start_token_id", self.sot),
            ("no_timestamps_token_id", self.no_timestamps),
        ];
        used.extend(self.sot_prev.map(|id| ("prev_sot_token_id", id)));
        used.extend(self.languages.iter().map(|(_, id)| ("lang_to_id", *id)));
        used.extend(self.tasks.iter().map(|(_, id)| ("task_to_id", *id)));
        used.extend(listed("suppress_tokens", &self.suppress));
        used.extend(listed("begin_suppress_tokens", &self.begin_suppress));
        if let Some((field, id)) = used
            .into_iter()
            .find(|(_, id)| *id as usize >= dimensions.vocabulary)
        {
            return Err(generation.error(
                field,
                format!(
                    "has the token {id}, but `vocab_size` of config.json is {}",
                    dimensions.vocabulary
                ),
            ));
        }
        if self.timestamp_begin as usize >= dimensions.vocabulary {
            return Err(generation.error(
                "no_timestamps_token_id",
                format!(
                    "is {}, the last token, but the timestamps follow it",
                    self.no_timestamps
                ),
            ));
        }
        if self.eot >= self.timestamp_begin {
            return Err(generation.error(
                "eos_token_id",
                format!(
                    "is {}, expected an id below the timestamps, which begin at {}",
                    self.eot, self.timestamp_begin
                ),
            ));
        }
        if !self.languages.is_empty() && self.task(Task::Transcribe).is_none() {
            return Err(generation.error(
                "task_to_id",
                "has no `transcribe`, although there is a `lang_to_id`",
            ));
        }
        Ok(())
    }

    fn task(&self, task: Task) -> Option<u32> {
        self.tasks
            .iter()
            .find(|(name, _)| name == task.name())
            .map(|(_, id)| *id)
    }

    /// Returns whether the model can translate: it has a token for the task and more than one language.
    pub fn translates(&self) -> bool {
        self.languages.len() > 1 && self.task(Task::Translate).is_some()
    }

    /// Returns the token of a language code.
    pub fn language(&self, code: &str) -> Option<u32> {
        self.languages
            .iter()
            .find(|(name, _)| name == code)
            .map(|(_, id)| *id)
    }

    /// Returns the tokens from the start of the transcript to the first timestamp. `language` is `None` if the model has no language
    /// tokens.
    pub fn start_sequence(&self, language: Option<u32>, task: Task) -> Vec<u32> {
        let mut tokens = vec![self.sot];
        if let Some(language) = language {
            tokens.push(language);
            tokens.extend(self.task(task));
        }
        tokens
    }

    /// Encodes a text without special tokens. Special tokens in the text are dropped.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoding = self.tokenizer.encode(text, false).map_err(|error| {
            Error::InvalidOption(format!("the prompt cannot be tokenized: {error}"))
        })?;
        Ok(encoding
            .get_ids()
            .iter()
            .copied()
            .filter(|&id| id < self.eot)
            .collect())
    }

    /// Decodes `tokens` to text, without the special tokens.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, Error> {
        let text: Vec<u32> = tokens.iter().copied().filter(|&id| id < self.eot).collect();
        self.tokenizer
            .decode(&text, false)
            .map_err(|error| Error::Internal(format!("the tokens cannot be decoded: {error}")))
    }
}

/// Returns the language codes with their tokens, in the order of the tokens; empty for an English-only model. If the settings have no
/// list, as for faster-whisper's models and many fine-tuned or converted ones, the languages are the tokens between the start of the
/// transcript and the tasks.
fn languages(
    generation: &JsonFile,
    tokenizer: &Tokenizer,
    sot: u32,
    dimensions: &Dimensions,
) -> Result<Vec<(String, u32)>, LoadError> {
    let is_multilingual = generation
        .flag("is_multilingual")?
        .unwrap_or(dimensions.vocabulary >= MULTILINGUAL_VOCABULARY);
    let code = |name: &str| Some(name.strip_prefix("<|")?.strip_suffix("|>")?.to_owned());
    let mut languages = generation
        .token_map("lang_to_id")?
        .into_iter()
        .map(|(name, id)| {
            code(&name).map(|code| (code, id)).ok_or_else(|| {
                generation.error(
                    "lang_to_id",
                    format!("has the name `{name}`, expected one like `<|en|>`"),
                )
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if languages.is_empty() && is_multilingual {
        languages = (sot.saturating_add(1)..)
            .map_while(|id| Some((code(&tokenizer.id_to_token(id)?)?, id)))
            .take_while(|(code, _)| code.len() <= MAX_CODE_LENGTH)
            .collect();
        if languages.is_empty() {
            return Err(generation.error(
                "lang_to_id",
                "is missing, and the tokenizer has no language tokens, but the model is multilingual; take \
                 generation_config.json from the model that this one was made from",
            ));
        }
    }
    languages.sort_by_key(|(_, id)| *id);
    Ok(languages)
}
