//! The sizes that a model's files state, checked against one another.

use std::path::Path;

use super::json::JsonFile;
use crate::LoadError;

/// What the audio components make, and every published Whisper takes.
const FRAMES_PER_SECOND: usize = 100;

/// The sizes of a model. Those that the ONNX graphs state as well are compared when these are loaded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sizes {
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
    /// Hypotheses of the beam search that the model's own settings ask for; 1 where they say nothing.
    pub beam_size: usize,
}

impl Sizes {
    /// Read `config.json`, `preprocessor_config.json` and `generation_config.json`.
    pub fn read(folder: &Path) -> Result<Self, LoadError> {
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

        let hop = preprocessor.positive("hop_length")?;
        let rate = preprocessor.positive("sampling_rate")?;
        if Some(rate) != hop.checked_mul(FRAMES_PER_SECOND) {
            return Err(preprocessor.error(
                "hop_length",
                format!("is {hop} at a `sampling_rate` of {rate}, expected {FRAMES_PER_SECOND} frames per second, as in every Whisper"),
            ));
        }
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
        let text_context = generation
            .whole("max_length")?
            .unwrap_or(text_positions)
            .min(text_positions);
        if text_context < 16 {
            return Err(generation.error(
                "max_length",
                format!("leaves {text_context} tokens for a window, too few to decode any text"),
            ));
        }

        let beam_size = generation.whole("num_beams")?.unwrap_or(1);
        if beam_size == 0 {
            return Err(generation.error("num_beams", "is 0, expected at least 1"));
        }

        Ok(Self {
            n_mels,
            frames_per_second: FRAMES_PER_SECOND as f64,
            window,
            positions,
            layers: config.positive("decoder_layers")?,
            heads,
            head_dim: width / heads,
            vocabulary: config.positive("vocab_size")?,
            text_context,
            beam_size,
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
