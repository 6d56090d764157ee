//! Model dimensions, read from the model's files and checked against each other.

use std::path::Path;

use super::json::JsonFile;
use crate::LoadError;
use crate::weights::Checkpoint;

/// The rate that the audio components produce and every published Whisper model expects.
const FRAMES_PER_SECOND: usize = 100;

/// The head dimension of every Whisper model.
const HEAD_DIM: usize = 64;

/// Beam size if the model's settings have none: faster-whisper's default.
const BEAM_SIZE: usize = 5;

/// The dimensions of a model. Those that ONNX graphs state as well are compared when the graphs are loaded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dimensions {
    /// Mel bins per frame.
    pub n_mels: usize,
    /// Sampling rate divided by hop length.
    pub frames_per_second: f64,
    /// Frames in one window.
    pub window: usize,
    /// Encoder positions per window.
    pub positions: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Decoder attention heads.
    pub heads: usize,
    /// Dimension of one head.
    pub head_dim: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Maximum number of tokens of one window, including the prompt.
    pub text_context: usize,
    /// Beam size from the model's settings, or the default.
    pub beam_size: usize,
    /// Whether windows are prompted with the text before them by default: `condition_on_prev_tokens`, or true.
    pub condition_on_previous_text: bool,
}

impl Dimensions {
    /// Reads the dimensions of a checkpoint, mostly from the shapes of its tensors. `config.json`, `preprocessor_config.json` and
    /// `generation_config.json`, if present, must agree.
    pub fn from_checkpoint(
        folder: &Path,
        checkpoint: &Checkpoint,
        config: &JsonFile,
    ) -> Result<Self, LoadError> {
        let preprocessor = JsonFile::optional(folder, "preprocessor_config.json")?;
        let generation = JsonFile::optional(folder, "generation_config.json")?;
        let n_mels = checkpoint.n_mels();
        for (file, field, actual) in [
            (&preprocessor, "feature_size", n_mels),
            (config, "num_mel_bins", n_mels),
            (config, "d_model", checkpoint.width()),
            (config, "encoder_layers", checkpoint.encoder.len()),
            (config, "decoder_layers", checkpoint.decoder.len()),
            (config, "vocab_size", checkpoint.embeddings.rows),
            (
                config,
                "max_source_positions",
                checkpoint.encoder_positions.rows,
            ),
            (
                config,
                "max_target_positions",
                checkpoint.decoder_positions.rows,
            ),
        ] {
            if let Some(stated) = file.integer(field)?.filter(|&stated| stated != actual) {
                return Err(file.error(
                    field,
                    format!("is {stated}, but the weights have {actual}: they are incomplete, or of another model; take all files from the same model"),
                ));
            }
        }
        if preprocessor.has("hop_length") {
            check_rate(&preprocessor)?;
        }
        let width = checkpoint.width();
        let heads = match (checkpoint.heads, config.integer("decoder_attention_heads")?) {
            (Some(heads), _) | (None, Some(heads)) => heads,
            (None, None) => width / HEAD_DIM,
        };
        if heads == 0 || !width.is_multiple_of(heads) {
            return Err(config.error(
                "decoder_attention_heads",
                format!("gives {heads} heads, which do not divide the width, {width}"),
            ));
        }
        let positions = checkpoint.encoder_positions.rows;
        Ok(Self {
            n_mels,
            frames_per_second: FRAMES_PER_SECOND as f64,
            window: 2 * positions,
            positions,
            layers: checkpoint.decoder.len(),
            heads,
            head_dim: width / heads,
            vocabulary: checkpoint.embeddings.rows,
            text_context: text_context(&generation, checkpoint.decoder_positions.rows)?,
            beam_size: beam_size(&generation)?,
            condition_on_previous_text: condition_on_previous_text(&generation)?,
        })
    }

    /// Reads the dimensions of ONNX files from `config.json`, `preprocessor_config.json` and `generation_config.json`.
    pub fn from_onnx(folder: &Path) -> Result<Self, LoadError> {
        let config = JsonFile::open(folder, "config.json")?;
        let preprocessor = JsonFile::open(folder, "preprocessor_config.json")?;
        let generation = JsonFile::open(folder, "generation_config.json")?;

        let n_mels = preprocessor.positive("feature_size")?;
        let config_mels = config.positive("num_mel_bins")?;
        if n_mels != config_mels {
            return Err(preprocessor.error(
                "feature_size",
                format!("is {n_mels}, but `num_mel_bins` of config.json is {config_mels}; take both files from the same model"),
            ));
        }

        check_rate(&preprocessor)?;
        let window = match preprocessor.integer("nb_max_frames")? {
            Some(frames) => frames,
            None => preprocessor
                .positive("chunk_length")?
                .saturating_mul(FRAMES_PER_SECOND),
        };
        let positions = config.positive("max_source_positions")?;
        // The encoder's second convolution has a stride of 2.
        if !window.is_multiple_of(2) || window / 2 != positions {
            return Err(preprocessor.error(
                "nb_max_frames",
                format!("gives a window of {window} frames, but `max_source_positions` of config.json is {positions}, which needs {}", positions.saturating_mul(2)),
            ));
        }

        let width = config.positive("d_model")?;
        let heads = config.positive("decoder_attention_heads")?;
        if width % heads != 0 {
            return Err(config.error(
                "decoder_attention_heads",
                format!("is {heads}, which does not divide `d_model`, {width}"),
            ));
        }
        let text_positions = config.positive("max_target_positions")?;
        Ok(Self {
            n_mels,
            frames_per_second: FRAMES_PER_SECOND as f64,
            window,
            positions,
            layers: config.positive("decoder_layers")?,
            heads,
            head_dim: width / heads,
            vocabulary: config.positive("vocab_size")?,
            text_context: text_context(&generation, text_positions)?,
            beam_size: beam_size(&generation)?,
            condition_on_previous_text: condition_on_previous_text(&generation)?,
        })
    }

    /// Returns the length of a window in seconds.
    pub fn window_seconds(&self) -> f64 {
        self.window as f64 / self.frames_per_second
    }

    /// Returns the number of frames per timestamp step: the window divided by the encoder's positions.
    pub fn frames_per_timestamp(&self) -> usize {
        self.window / self.positions
    }
}

/// Checks that the frame rate in `preprocessor_config.json` is the one that the audio components produce.
fn check_rate(preprocessor: &JsonFile) -> Result<(), LoadError> {
    let hop = preprocessor.positive("hop_length")?;
    let rate = preprocessor.positive("sampling_rate")?;
    if Some(rate) != hop.checked_mul(FRAMES_PER_SECOND) {
        return Err(preprocessor.error(
            "hop_length",
            format!("is {hop} at a `sampling_rate` of {rate}, expected {FRAMES_PER_SECOND} frames per second, as in every Whisper model"),
        ));
    }
    Ok(())
}

/// Returns the maximum number of tokens of a window: `max_length`, at most the number of positions.
fn text_context(generation: &JsonFile, positions: usize) -> Result<usize, LoadError> {
    let context = generation
        .integer("max_length")?
        .unwrap_or(positions)
        .min(positions);
    if context < 16 {
        return Err(generation.error(
            "max_length",
            format!("leaves {context} tokens for a window, too few to decode any text"),
        ));
    }
    Ok(context)
}

/// Returns `num_beams`, or the default.
fn beam_size(generation: &JsonFile) -> Result<usize, LoadError> {
    match generation.integer("num_beams")? {
        Some(0) => Err(generation.error("num_beams", "is 0, expected at least 1")),
        Some(beams) => Ok(beams),
        None => Ok(BEAM_SIZE),
    }
}

/// Returns `condition_on_prev_tokens`, as transformers calls it, or true.
fn condition_on_previous_text(generation: &JsonFile) -> Result<bool, LoadError> {
    Ok(generation.flag("condition_on_prev_tokens")?.unwrap_or(true))
}
