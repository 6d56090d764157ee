//! Rules for the next token. Forbidden tokens get a logit of negative infinity.

use super::sampler::log_sum_exp;
use crate::model::Vocabulary;

/// The tokens that the rules refer to, without the tokenizer.
pub(crate) struct Rules {
    pub eot: u32,
    pub timestamp_begin: u32,
    pub suppress: Vec<u32>,
    pub begin_suppress: Vec<u32>,
    /// The first timestamp is at most this many steps after 0.00.
    pub max_initial_timestamp: Option<u32>,
}

impl Rules {
    pub fn new(vocabulary: &Vocabulary) -> Self {
        Self {
            eot: vocabulary.eot,
            timestamp_begin: vocabulary.timestamp_begin,
            suppress: vocabulary.suppress.clone(),
            begin_suppress: vocabulary.begin_suppress.clone(),
            max_initial_timestamp: vocabulary.max_initial_timestamp,
        }
    }

    /// Forbids tokens after `generated`, the window's tokens so far without its prompt.
    pub fn apply(&self, generated: &[u32], logits: &mut [f32]) {
        // Between the end of text and the timestamps there are only control tokens.
        forbid(logits, self.eot + 1..self.timestamp_begin);
        for &token in &self.suppress {
            forbid(logits, token..token + 1);
        }
        if generated.is_empty() {
            for &token in &self.begin_suppress {
                forbid(logits, token..token + 1);
            }
        }
        self.apply_timestamps(generated, logits);
    }

    /// `ApplyTimestampRules` of the reference: timestamps come in pairs and never decrease, the first one is early, and if all
    /// timestamps together are likelier than the likeliest text token, a timestamp is next.
    fn apply_timestamps(&self, generated: &[u32], logits: &mut [f32]) {
        let begin = self.timestamp_begin;
        let is_stamp = |token: &u32| *token >= begin;
        let last_is_stamp = generated.last().is_some_and(is_stamp);
        let before_is_stamp = generated.len() < 2 || is_stamp(&generated[generated.len() - 2]);
        if last_is_stamp {
            if before_is_stamp {
                forbid(logits, begin..u32::MAX);
            } else {
                forbid(logits, 0..self.eot);
            }
        }
        if let Some(&last) = generated.iter().rev().find(|token| is_stamp(token)) {
            // A segment may begin where the previous one ended, but must not be empty.
            let earliest = if last_is_stamp && !before_is_stamp {
                last
            } else {
                last + 1
            };
            forbid(logits, begin..earliest);
        }
        if generated.is_empty() {
            forbid(logits, 0..begin);
            if let Some(latest) = self.max_initial_timestamp {
                forbid(
                    logits,
                    begin.saturating_add(latest).saturating_add(1)..u32::MAX,
                );
            }
        }
        let (text, stamps) = logits.split_at_mut(logits.len().min(begin as usize));
        let best_text = text.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if log_sum_exp(stamps) > best_text {
            text.fill(f32::NEG_INFINITY);
        }
    }
}

fn forbid(logits: &mut [f32], tokens: std::ops::Range<u32>) {
    let end = logits.len().min(tokens.end as usize);
    let start = end.min(tokens.start as usize);
    logits[start..end].fill(f32::NEG_INFINITY);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text is 0 to 3, the end of text 4, two control tokens 5 and 6, timestamps 7 to 12.
    fn rules() -> Rules {
        Rules {
            eot: 4,
            timestamp_begin: 7,
            suppress: vec![3],
            begin_suppress: vec![0, 4],
            max_initial_timestamp: Some(2),
        }
    }

    /// Returns the tokens allowed after `generated`, with all logits equal except the `raised` ones.
    fn allowed(generated: &[u32], raised: &[(usize, f32)]) -> Vec<usize> {
        let mut logits = vec![0.0; 13];
        for &(token, logit) in raised {
            logits[token] = logit;
        }
        rules().apply(generated, &mut logits);
        (0..13).filter(|&t| logits[t] > f32::NEG_INFINITY).collect()
    }

    #[test]
    fn a_window_begins_with_an_early_timestamp() {
        assert_eq!(allowed(&[], &[]), [7, 8, 9]);
    }

    #[test]
    fn a_maximum_initial_timestamp_beyond_all_timestamps_allows_all() {
        let mut rules = rules();
        rules.max_initial_timestamp = Some(u32::MAX);
        let mut logits = vec![0.0; 13];
        rules.apply(&[], &mut logits);
        assert_eq!(logits[7..], [0.0; 6]);
    }

    #[test]
    fn text_follows_the_opening_timestamp() {
        assert_eq!(allowed(&[8], &[(1, 9.0)]), [0, 1, 2, 4]);
    }

    #[test]
    fn the_end_or_a_later_or_equal_timestamp_follows_a_closing_timestamp() {
        assert_eq!(allowed(&[8, 1, 10], &[(4, 9.0)]), [4, 10, 11, 12]);
    }

    #[test]
    fn timestamps_never_decrease_and_segments_are_never_empty() {
        assert_eq!(allowed(&[8, 1], &[(1, 9.0)]), [0, 1, 2, 4, 9, 10, 11, 12]);
    }

    #[test]
    fn timestamps_that_are_together_likelier_than_any_text_win() {
        assert_eq!(allowed(&[8, 1], &[(1, 1.0)]), [9, 10, 11, 12]);
    }
}
