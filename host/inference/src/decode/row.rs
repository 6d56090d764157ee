//! One row of a batch.

/// One row of a batch: a window to decode.
pub(crate) struct Row {
    /// Tokens before the text. The same length in every row of a batch.
    pub prompt: Vec<u32>,
    /// Index of the start of the transcript in the prompt.
    pub sot: usize,
    /// Beam search at 0.0; sampling above.
    pub temperature: f32,
    /// Maximum number of hypotheses at temperature 0.0, where 1 is greedy decoding, and the number of texts sampled above.
    pub beam_size: usize,
    /// Seed of the sampling above temperature 0.0.
    pub seed: u64,
}
