//! What is decoded.

/// One row of a batch.
pub(crate) struct Row {
    /// Tokens before the text. The same length in every row of a batch.
    pub prompt: Vec<u32>,
    /// Where in the prompt the start of the transcript is.
    pub sot: usize,
    /// 0.0 is a search for the likeliest text; above, texts are drawn.
    pub temperature: f32,
    /// Most hypotheses that are followed at temperature 0.0, where 1 is greedy, and the texts that are drawn above.
    pub beam_size: usize,
    /// Seed of the sampling above temperature 0.0.
    pub seed: u64,
}
