//! The loop over a batch of windows: prompt in, token by token out, for all rows at once.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::fallback::compression_ratio;
use super::rules::Rules;
use super::sampler::{choose, likeliest, probability};
use crate::Error;
use crate::model::Vocabulary;
use crate::session::{Decoder, Logits, States};

/// One row of a batch.
pub(crate) struct Row {
    /// Tokens before the text. The same length in every row of a batch.
    pub prompt: Vec<u32>,
    /// Where in the prompt the start of the transcript is.
    pub sot: usize,
    /// Whether the model marks times.
    pub timestamps: bool,
    /// 0.0 is greedy.
    pub temperature: f32,
    /// Seed of the sampling above temperature 0.0.
    pub seed: u64,
}

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

/// A row while it is decoded.
struct Progress {
    tokens: Vec<u32>,
    sum_logprob: f32,
    no_speech_prob: f32,
    rng: StdRng,
    ended: bool,
}

/// What the loop needs of the model beside the decoder.
pub(crate) struct Context<'a> {
    pub vocabulary: &'a Vocabulary,
    pub rules: &'a Rules,
    /// Most tokens of a window, prompt included.
    pub text_context: usize,
}

/// Who waits for the rows of a batch.
pub(crate) trait Listener {
    /// Whether anybody still waits for this row.
    fn is_wanted(&self, row: usize) -> bool;

    /// The row has ended; called once for each row that was wanted to its end.
    fn ended(&mut self, row: usize, attempt: Attempt);
}

/// Decode `rows`, one per window of `states`. Ends when every row has ended or is no longer wanted. Gives the number
/// of tokens sampled.
pub(crate) fn decode(
    decoder: &mut Decoder,
    context: &Context<'_>,
    states: &States,
    rows: &[Row],
    listener: &mut impl Listener,
) -> Result<u64, Error> {
    let length = rows[0].prompt.len();
    let prompt: Vec<i64> = rows
        .iter()
        .flat_map(|row| row.prompt.iter().map(|&token| i64::from(token)))
        .collect();
    let (mut logits, mut cache) = decoder.first(prompt, states)?;
    let mut scratch = Vec::new();
    let mut progress = rows
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let no_speech_prob = match context.vocabulary.no_speech {
                Some(token) => {
                    logits.read(index, row.sot, &mut scratch)?;
                    probability(&scratch, token)
                }
                None => 0.0,
            };
            Ok(Progress {
                tokens: Vec::new(),
                sum_logprob: 0.0,
                no_speech_prob,
                rng: StdRng::seed_from_u64(row.seed),
                ended: false,
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;

    let mut position = length - 1;
    let mut sampled = 0;
    loop {
        for (index, (row, state)) in rows.iter().zip(&mut progress).enumerate() {
            if state.ended || !listener.is_wanted(index) {
                state.ended = true;
                continue;
            }
            logits.read(index, position, &mut scratch)?;
            context
                .rules
                .apply(&state.tokens, row.timestamps, &mut scratch);
            let (token, logprob) = choose(&scratch, row.temperature, &mut state.rng);
            sampled += 1;
            state.sum_logprob += logprob;
            let at_end = token == context.rules.eot;
            if !at_end {
                state.tokens.push(token);
            }
            if at_end || length + state.tokens.len() >= context.text_context {
                state.ended = true;
                let attempt = attempt(context.vocabulary, row, state, at_end)?;
                listener.ended(index, attempt);
            }
        }
        if progress.iter().all(|state| state.ended) {
            return Ok(sampled);
        }
        // Rows that have ended go on with the end of text; nobody reads what comes of it.
        let tokens = progress
            .iter()
            .map(|state| match state.tokens.last() {
                Some(&token) if !state.ended => i64::from(token),
                _ => i64::from(context.rules.eot),
            })
            .collect();
        logits = decoder.next(tokens, &mut cache, states)?;
        position = 0;
    }
}

fn attempt(
    vocabulary: &Vocabulary,
    row: &Row,
    state: &mut Progress,
    at_end: bool,
) -> Result<Attempt, Error> {
    let tokens = std::mem::take(&mut state.tokens);
    let text = vocabulary.decode(&tokens)?;
    let count = tokens.len() + usize::from(at_end);
    Ok(Attempt {
        avg_logprob: state.sum_logprob / count as f32,
        no_speech_prob: state.no_speech_prob,
        compression_ratio: compression_ratio(text.trim()),
        temperature: row.temperature,
        tokens,
    })
}

/// The likeliest language of each window, as its index in `Vocabulary::languages`, which must not be empty.
pub(crate) fn detect_languages(
    decoder: &mut Decoder,
    vocabulary: &Vocabulary,
    states: &States,
) -> Result<Vec<usize>, Error> {
    let (logits, _cache) = decoder.first(vec![i64::from(vocabulary.sot); states.batch], states)?;
    let mut scratch = Vec::new();
    (0..states.batch)
        .map(|row| language(&logits, row, vocabulary, &mut scratch))
        .collect()
}

fn language(
    logits: &Logits,
    row: usize,
    vocabulary: &Vocabulary,
    scratch: &mut Vec<f32>,
) -> Result<usize, Error> {
    logits.read(row, 0, scratch)?;
    let candidates: Vec<f32> = vocabulary
        .languages
        .iter()
        .map(|&(_, token)| scratch[token as usize])
        .collect();
    Ok(likeliest(&candidates) as usize)
}
