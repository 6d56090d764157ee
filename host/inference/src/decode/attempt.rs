//! What came of a window.

/// What came of decoding one window once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attempt {
    /// Text tokens and time stamps, without the end of text.
    pub tokens: Vec<u32>,
    /// Mean natural-log probability per token, the end of text included.
    pub avg_logprob: f32,
    /// The model's probability that the window holds no speech.
    pub no_speech_prob: f32,
    /// Compression ratio of the text.
    pub compression_ratio: f32,
    /// The temperature it was decoded with.
    pub temperature: f32,
}
