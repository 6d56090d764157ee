//! The dimensions that a model's files state, checked against one another.

use std::path::Path;

use super::json::JsonFile;
use crate::LoadError;
use crate::weights::Checkpoint;

/// What the audio components make, and every published Whisper takes.
const FRAMES_PER_SECOND: usize = 100;

/// The width of a head in every Whisper.
const HEAD_DIM: usize = 64;

/// Hypotheses of the beam search where a model's settings say nothing: faster-whisper's default.
const BEAM_SIZE: usize = 5;

/// The dimensions of a model. Those that the ONNX graphs state as well are compared when these are loaded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dimensions {
    /// Mel bins per frame.
    pub n_mels: usize,
    /// Sampling rate over hop length.
    pub frames_per_second: f64,
    /// Frames in one window.
    pub window: usize,
    /// Encoder positions per window.
    pub positions: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Decoder attention heads.
    pub heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Most tokens of one window, prompt included.
    pub text_context: usize,
    /// Hypotheses of the beam search that the model's own settings ask for, or the default.
    pub beam_size: usize,
    /// Whether a window is given the text before it, if the request does not say: `condition_on_prev_tokens`, or true.
    pub condition_on_previous_text: bool,
}

impl Dimensions {
    /// Of a checkpoint: its tensors' shapes say most of it, and `config.json`, `preprocessor_config.json` and
    /// `generation_config.json`, where they are there, must agree.
    pub fn of_checkpoint(
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
            if let Some(stated) = file.whole(field)?.filter(|&stated| stated != actual) {
                return Err(file.error(
                    field,
                    format!("is {stated}, but the weights have {actual}: they are incomplete, or of another model; take all files from the same one"),
                ));
            }
        }
        if preprocessor.has("hop_length") {
            check_rate(&preprocessor)?;
        }
        let width = checkpoint.width();
        let heads = match (checkpoint.heads, config.whole("decoder_attention_heads")?) {
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

    /// Of ONNX files: what `config.json`, `preprocessor_config.json` and `generation_config.json` say.
    pub fn of_onnx(folder: &Path) -> Result<Self, LoadError> {
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
        let window = match preprocessor.whole("nb_max_frames")? {
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

    /// Seconds in one window.
    pub fn window_seconds(&self) -> f64 {
        self.window as f64 / self.frames_per_second
    }

    /// Frames per time stamp step: the window over the encoder's positions.
    pub fn frames_per_timestamp(&self) -> usize {
        self.window / self.positions
    }
}

/// The frames per second that `preprocessor_config.json` states, which must be those that audio components make.
fn check_rate(preprocessor: &JsonFile) -> Result<(), LoadError> {
    let hop = preprocessor.positive("hop_length")?;
    let rate = preprocessor.positive("sampling_rate")?;
    if Some(rate) != hop.checked_mul(FRAMES_PER_SECOND) {
        return Err(preprocessor.error(
            "hop_length",
            format!("is {hop} at a `sampling_rate` of {rate}, expected {FRAMES_PER_SECOND} frames per second, as in every Whisper"),
        ));
    }
    Ok(())
}

/// Most tokens of a window: `max_length`, or as many as there are positions.
fn text_context(generation: &JsonFile, positions: usize) -> Result<usize, LoadError> {
    let context = generation
        .whole("max_length")?
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

/// `num_beams`, or the default.
fn beam_size(generation: &JsonFile) -> Result<usize, LoadError> {
    match generation.whole("num_beams")? {
        Some(0) => Err(generation.error("num_beams", "is 0, expected at least 1")),
        Some(beams) => Ok(beams),
        None => Ok(BEAM_SIZE),
    }
}

/// `condition_on_prev_tokens`, as transformers has it, or true.
fn condition_on_previous_text(generation: &JsonFile) -> Result<bool, LoadError> {
    Ok(generation.flag("condition_on_prev_tokens")?.unwrap_or(true))
}
