//! The decoding loop of a batch of windows: runs the prompts, then token by token, for all rows at once.

use super::attempt::Attempt;
use super::fallback::compression_ratio;
use super::row::Row;
use super::rules::Rules;
use super::sampler::{argmax, probability};
use super::search::Search;
use crate::Error;
use crate::model::Vocabulary;
use crate::session::{Decoder, Logits, States};

/// The model data that the loop needs in addition to the decoder.
pub(crate) struct Context<'a> {
    pub vocabulary: &'a Vocabulary,
    pub rules: &'a Rules,
    /// Maximum number of tokens of a window, including the prompt.
    pub text_context: usize,
}

/// Receives the results of a batch's rows.
pub(crate) trait Listener {
    /// Returns whether the result of this row is still wanted.
    fn is_wanted(&self, row: usize) -> bool;

    /// Called once for each row that is finished and still wanted, with an error if the model's output for this row is invalid.
    fn finished(&mut self, row: usize, result: Result<Attempt, Error>);
}

/// Decodes `rows`, one per window of `states`, until every row is finished or no longer wanted. Returns the number of tokens
/// computed, including those of all hypotheses. States of windows that are no longer wanted may be removed.
pub(crate) fn decode(
    decoder: &mut Decoder,
    context: &Context<'_>,
    states: &mut States,
    rows: &[Row],
    listener: &mut impl Listener,
) -> Result<u64, Error> {
    let length = rows[0].prompt.len();
    let prompt: Vec<i64> = rows
        .iter()
        .flat_map(|row| row.prompt.iter().map(|&token| i64::from(token)))
        .collect();
    let mut wanted: Vec<usize> = rows.iter().map(|row| row.sot).collect();
    wanted.push(length - 1);
    wanted.sort_unstable();
    wanted.dedup();
    let (mut logits, mut cache) = decoder.first(prompt, states, &wanted)?;
    let mut scratch = Vec::new();
    let mut searches = Vec::with_capacity(rows.len());
    let mut no_speech_probs = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        no_speech_probs.push(match context.vocabulary.no_speech {
            Some(token) => {
                logits.read(index, row.sot, &mut scratch)?;
                probability(&scratch, token)
            }
            None => 0.0,
        });
        searches.push(Search::new(row, context.text_context - length));
    }

    let mut position = length - 1;
    let mut computed = 0;
    loop {
        // The decoder's rows are the hypotheses of all searches, in order.
        let (mut parents, mut tokens, mut first) = (Vec::new(), Vec::new(), 0);
        for (index, search) in searches.iter_mut().enumerate() {
            let count = search.live().len();
            if count == 0 {
                continue;
            }
            if listener.is_wanted(index) {
                computed += count as u64;
                let found = search.step(context.rules, |hypothesis, out| {
                    logits.read(first + hypothesis, position, out)
                })?;
                if let Some(found) = found {
                    let attempt = found.and_then(|found| {
                        let text = context.vocabulary.decode(&found.tokens)?;
                        Ok(Attempt {
                            avg_logprob: found.avg_logprob,
                            no_speech_prob: no_speech_probs[index],
                            compression_ratio: compression_ratio(text.trim()),
                            temperature: rows[index].temperature,
                            tokens: found.tokens,
                        })
                    });
                    listener.finished(index, attempt);
                }
            } else {
                search.abandon();
            }
            for hypothesis in search.live() {
                parents.push(first + hypothesis.parent);
                tokens.extend(hypothesis.tokens.last().map(|&token| i64::from(token)));
            }
            first += count;
        }
        if parents.is_empty() {
            return Ok(computed);
        }
        decoder.select(&mut cache, &parents)?;
        let needed: Vec<usize> = (0..rows.len())
            .filter(|&row| listener.is_wanted(row))
            .collect();
        decoder.compact(&mut cache, &needed)?;
        logits = decoder.next(tokens, &mut cache)?;
        position = 0;
    }
}

/// Returns the likeliest language of each window, as its index in `Vocabulary::languages`, which must not be empty.
pub(crate) fn detect_languages(
    decoder: &mut Decoder,
    vocabulary: &Vocabulary,
    states: &mut States,
) -> Result<Vec<usize>, Error> {
    let batch = states.batch();
    let (logits, _cache) = decoder.first(vec![i64::from(vocabulary.sot); batch], states, &[0])?;
    let mut scratch = Vec::new();
    (0..batch)
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
    Ok(argmax(&candidates) as usize)
}
