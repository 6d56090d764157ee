//! Information on a loaded model.

use super::precision::Precision;

/// Properties of a loaded model, for callers that choose between models and prepare frames.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Mel bins of each frame.
    pub n_mels: usize,
    /// Frames per second; 100 for every Whisper model.
    pub frames_per_second: f64,
    /// Length of the window, in seconds.
    pub window: f64,
    /// Supported languages, as codes (`en`, `de`, `haw`).
    pub languages: Vec<String>,
    /// Whether it can translate into English.
    pub translates: bool,
    /// Default beam size: `num_beams` of its `generation_config.json`, or 5; at most [`crate::Config::max_batch`].
    pub beam_size: u32,
    /// The precision in use.
    pub precision: Precision,
    /// Names of the files with its weights.
    pub files: Vec<String>,
    /// The device in use: `cpu` or `cuda`.
    pub device: &'static str,
}
