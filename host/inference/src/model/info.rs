//! What is known of a loaded model.

use super::precision::Precision;

/// What a loaded model is, for those who choose between models and prepare frames for one.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Mel bins of each frame.
    pub n_mels: usize,
    /// Frames per second; 100 for every Whisper model.
    pub frames_per_second: f64,
    /// Length of the window, in seconds.
    pub window: f64,
    /// Languages it knows, as codes (`en`, `de`, `haw`).
    pub languages: Vec<String>,
    /// Whether it can translate into English.
    pub translates: bool,
    /// Hypotheses of the beam search that its `generation_config.json` asks for (`num_beams`), or 5; at most
    /// [`crate::Config::max_batch`].
    pub beam_size: u32,
    /// The precision in use.
    pub precision: Precision,
    /// Names of the files that hold its weights.
    pub files: Vec<String>,
    /// The device in use: `cpu` or `cuda`.
    pub device: &'static str,
}
