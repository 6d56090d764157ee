//! The result of decoding a window.

/// The result of decoding one window at one temperature.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attempt {
    /// Text tokens and timestamps, without the end of text.
    pub tokens: Vec<u32>,
    /// Mean log probability (natural) per token, including the end of text.
    pub avg_logprob: f32,
    /// The model's probability that the window has no speech.
    pub no_speech_prob: f32,
    /// Compression ratio of the text.
    pub compression_ratio: f32,
    /// The temperature at which it was decoded.
    pub temperature: f32,
}
