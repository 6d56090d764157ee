//! The text of one window: a beam search at temperature 0.0; above, the likeliest of as many drawn texts as the beam is wide.
//!
//! The search is that of the reference (`BeamSearchDecoder`, `MaximumLikelihoodRanker`) but for these things:
//! - the hypothesis that greedy decoding follows keeps a place, and the search waits for its end. Its text is taken if it is
//!   likelier by the token than the beam's, and half as long again: a text that leaves out the first sentences may start likelier,
//!   and push the whole one out of the beam;
//! - hypotheses of less than [`UNLIKELY`] of the probability of the best one as long are not followed. A tenth is no faster, and
//!   costs 0.6 points of word errors on half an hour of speech in four languages (`base`);
//! - where the likeliest of all hypotheses is that there is no text, there is none: the mean per token favours long
//!   texts, and would rather invent one.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::row::Row;
use super::rules::Rules;
use super::sampler::{draw, likeliest_few, log_sum_exp};
use crate::Error;

/// Share of the best hypothesis's probability.
const UNLIKELY: f32 = 0.01;

/// A text so far.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hypothesis {
    /// Without the prompt.
    pub tokens: Vec<u32>,
    /// Which of the live hypotheses of the step before it goes on from.
    pub parent: usize,
    sum_logprob: f32,
    /// Whether each token is the likeliest after those before.
    greedy: bool,
    /// Whether it is followed for being greedy alone, as the beam was full of likelier ones, or has ended.
    outside: bool,
}

/// A text that has ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    /// Without the end of text.
    pub tokens: Vec<u32>,
    /// Mean natural-log probability per token, the end of text included.
    pub avg_logprob: f32,
    sum_logprob: f32,
}

impl Found {
    /// A text that has ended with so many tokens to mark its end.
    fn new(tokens: Vec<u32>, sum_logprob: f32, marks: usize) -> Self {
        Self {
            avg_logprob: sum_logprob / (tokens.len() + marks) as f32,
            sum_logprob,
            tokens,
        }
    }

    /// What the best of several texts has most of: the sum over the tokens, without the end of text in their count.
    fn rank(&self) -> f32 {
        self.sum_logprob / self.tokens.len().max(1) as f32
    }

    /// Whether it is likelier than `other`, which may be a part of it.
    fn completes(&self, other: &Self) -> bool {
        self.rank() > other.rank() && 2 * self.tokens.len() > 3 * other.tokens.len()
    }
}

/// The search for one window's text.
pub(crate) struct Search {
    temperature: f32,
    /// Most hypotheses, or the drawn texts; as many texts have to end.
    beam_size: usize,
    /// Most tokens of a text.
    longest: usize,
    rng: StdRng,
    /// The likeliest first.
    live: Vec<Hypothesis>,
    ended: Vec<Found>,
    /// The greedy text, if it has ended outside the beam.
    greedy: Option<Found>,
    scratch: Vec<f32>,
}

/// How a hypothesis may go on.
struct Candidate {
    parent: usize,
    token: u32,
    sum_logprob: f32,
    greedy: bool,
}

impl Search {
    pub fn new(row: &Row, longest: usize) -> Self {
        Self {
            temperature: row.temperature,
            beam_size: row.beam_size,
            longest,
            rng: StdRng::seed_from_u64(row.seed),
            live: vec![Hypothesis {
                tokens: Vec::new(),
                parent: 0,
                sum_logprob: 0.0,
                greedy: row.temperature == 0.0,
                outside: false,
            }],
            ended: Vec::new(),
            greedy: None,
            scratch: Vec::new(),
        }
    }

    /// The hypotheses that are followed; none once the search has ended.
    pub fn live(&self) -> &[Hypothesis] {
        &self.live
    }

    /// End the search without a text.
    pub fn abandon(&mut self) {
        self.live.clear();
    }

    /// Take each hypothesis a token further; `read` gives the logits after the hypothesis of that index, and its errors are
    /// handed on. Gives the text when the search has ended, or why there is none.
    pub fn step(
        &mut self,
        rules: &Rules,
        mut read: impl FnMut(usize, &mut Vec<f32>) -> Result<(), Error>,
    ) -> Result<Option<Result<Found, Error>>, Error> {
        let mut candidates = Vec::new();
        for (parent, hypothesis) in self.live.iter().enumerate() {
            read(parent, &mut self.scratch)?;
            rules.apply(&hypothesis.tokens, &mut self.scratch);
            let whole = log_sum_exp(&self.scratch);
            if !whole.is_finite() {
                self.live.clear();
                return Ok(Some(Err(Error::Internal(
                    "the decoder's logits are not numbers".into(),
                ))));
            }
            let next: Vec<u32> = if self.temperature > 0.0 {
                // All begin as one, and each goes on by itself.
                let texts = if hypothesis.tokens.is_empty() {
                    self.beam_size
                } else {
                    1
                };
                (0..texts)
                    .map(|_| draw(&self.scratch, self.temperature, &mut self.rng))
                    .collect()
            } else {
                likeliest_few(&self.scratch, self.beam_size + 1)
            };
            candidates.extend(
                next.into_iter()
                    .enumerate()
                    .map(|(place, token)| Candidate {
                        parent,
                        token,
                        sum_logprob: hypothesis.sum_logprob + self.scratch[token as usize] - whole,
                        greedy: hypothesis.greedy && place == 0,
                    }),
            );
        }
        candidates.sort_by(|one, other| other.sum_logprob.total_cmp(&one.sum_logprob));
        let best = &candidates[0];
        let before = &self.live[best.parent].tokens;
        if self.temperature == 0.0
            && best.token == rules.eot
            && before.iter().all(|&token| token >= rules.timestamp_begin)
        {
            let nothing = Found::new(before.clone(), best.sum_logprob, 1);
            self.live.clear();
            return Ok(Some(Ok(nothing)));
        }
        let least = if self.temperature > 0.0 {
            f32::NEG_INFINITY
        } else {
            best.sum_logprob + UNLIKELY.ln()
        };

        let mut live = Vec::with_capacity(self.beam_size);
        for candidate in candidates {
            let likely = live.len() < self.beam_size && candidate.sum_logprob >= least;
            if !likely && !candidate.greedy {
                continue;
            }
            let parent = &self.live[candidate.parent];
            let (mut tokens, outside) = (parent.tokens.clone(), parent.outside || !likely);
            if candidate.token == rules.eot {
                self.end(tokens, candidate.sum_logprob, 1, outside);
                continue;
            }
            if !likely {
                live.truncate(self.beam_size - 1);
            }
            tokens.push(candidate.token);
            live.push(Hypothesis {
                tokens,
                parent: candidate.parent,
                sum_logprob: candidate.sum_logprob,
                greedy: candidate.greedy,
                outside,
            });
        }
        self.live = live;
        if self
            .live
            .first()
            .is_some_and(|one| one.tokens.len() >= self.longest)
        {
            let mut cut = std::mem::take(&mut self.live);
            if !self.ended.is_empty() {
                // A greedy text that does not end repeats itself.
                cut.retain(|hypothesis| !hypothesis.outside);
            }
            for hypothesis in cut {
                self.end(hypothesis.tokens, hypothesis.sum_logprob, 0, false);
            }
        }
        if self.ended.len() == self.beam_size {
            self.live.retain(|hypothesis| hypothesis.greedy);
            self.live
                .iter_mut()
                .for_each(|greedy| greedy.outside = true);
        }
        if !self.live.is_empty() {
            return Ok(None);
        }
        let ended = std::mem::take(&mut self.ended).into_iter();
        let best = ended.reduce(|best, other| {
            if other.rank() > best.rank() {
                other
            } else {
                best
            }
        });
        let best = match (best, self.greedy.take()) {
            (Some(best), Some(greedy)) if greedy.completes(&best) => Some(greedy),
            (best, greedy) => best.or(greedy),
        };
        Ok(best.map(Ok))
    }

    fn end(&mut self, tokens: Vec<u32>, sum_logprob: f32, marks: usize, outside: bool) {
        let found = Found::new(tokens, sum_logprob, marks);
        if outside {
            self.greedy = Some(found);
        } else if self.ended.len() < self.beam_size {
            self.ended.push(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text is 0 to 2, the end 3, time stamps from 4 on.
    const EOT: u32 = 3;

    fn rules() -> Rules {
        Rules {
            eot: EOT,
            timestamp_begin: 4,
            suppress: vec![],
            begin_suppress: vec![],
            max_initial_timestamp: None,
        }
    }

    fn row(temperature: f32, beam_size: usize) -> Row {
        Row {
            prompt: vec![],
            sot: 0,
            temperature,
            beam_size,
            seed: 0,
        }
    }

    /// The text that is found with so many hypotheses or drawn texts, where `model` gives the probabilities of tokens 0 to 3
    /// after those before; and how many hypotheses were followed in each step. The time stamp that every text begins with, and
    /// the step that gives it, are left out of all of them, but count in the mean.
    fn decode(
        temperature: f32,
        beam_size: usize,
        longest: usize,
        model: impl Fn(&[u32]) -> [f32; 4],
    ) -> (Found, Vec<usize>) {
        let mut search = Search::new(&row(temperature, beam_size), longest + 1);
        let mut widths = Vec::new();
        loop {
            let live: Vec<Vec<u32>> = search.live().iter().map(|one| one.tokens.clone()).collect();
            widths.push(live.len());
            let found = search.step(&rules(), |index, out| {
                out.clear();
                match live[index].split_first() {
                    None => out.extend([0.0, 0.0, 0.0, 0.0, 1.0].map(f32::ln)),
                    Some((_, text)) => out.extend(model(text).map(f32::ln)),
                }
                Ok(())
            });
            if let Some(found) = found.unwrap() {
                assert!(search.live().is_empty());
                let mut found = found.unwrap();
                assert_eq!(found.tokens.remove(0), 4);
                return (found, widths.split_off(1));
            }
        }
    }

    fn search(
        beam_size: usize,
        longest: usize,
        model: impl Fn(&[u32]) -> [f32; 4],
    ) -> (Found, Vec<usize>) {
        decode(0.0, beam_size, longest, model)
    }

    #[test]
    fn of_drawn_texts_the_likeliest_is_kept() {
        // What begins with 2 is drawn three times in ten, and is the likeliest by the token.
        let model = |tokens: &[u32]| match tokens {
            [] => [0.35, 0.35, 0.3, 0.0],
            [2] => [0.0, 0.0, 0.0, 1.0],
            [_] => [0.3, 0.3, 0.3, 0.1],
            _ => [0.0, 0.0, 0.0, 1.0],
        };
        let (found, widths) = decode(1.0, 40, 9, model);
        assert_eq!(
            (found.tokens, widths[..2].to_vec()),
            (vec![2], vec![40, 40])
        );
        // One text that is drawn is the one that is kept.
        assert_eq!(decode(1.0, 1, 9, model).1[0], 1);
    }

    /// Token 0 is the likelier first, but what follows it is unsure; 1 leads to a likelier text.
    fn misleading(tokens: &[u32]) -> [f32; 4] {
        match tokens {
            [] => [0.55, 0.45, 0.0, 0.0],
            [0] => [0.3, 0.3, 0.4, 0.0],
            [1] => [0.0, 0.0, 1.0, 0.0],
            _ => [0.0, 0.0, 0.0, 1.0],
        }
    }

    #[test]
    fn a_beam_finds_the_text_that_greedy_decoding_misses() {
        let (greedy, widths) = search(1, 9, misleading);
        assert_eq!(greedy.tokens, [0, 2]);
        assert_eq!(widths, [1, 1, 1]);
        assert!((greedy.avg_logprob - (0.55f32 * 0.4).ln() / 4.0).abs() < 1e-6);
        let (found, _) = search(2, 9, misleading);
        assert_eq!(found.tokens, [1, 2]);
        assert!((found.avg_logprob - 0.45f32.ln() / 4.0).abs() < 1e-6);
    }

    #[test]
    fn a_hypothesis_of_less_than_a_hundredth_of_the_best_is_not_followed() {
        let model = |tokens: &[u32]| match tokens.len() {
            0 => [0.985, 0.008, 0.007, 0.0],
            1 => [0.5, 0.5, 0.0, 0.0],
            _ => [0.0, 0.0, 0.0, 1.0],
        };
        assert_eq!(search(4, 9, model).1, [1, 1, 2]);
    }

    #[test]
    fn a_longer_text_wins_if_it_is_likelier_by_the_token() {
        // Ends at once after 0 with 0.6, or goes on surely for three more tokens with 0.4.
        let model = |tokens: &[u32]| match tokens.len() {
            0 => [1.0, 0.0, 0.0, 0.0],
            1 => [0.0, 0.4, 0.0, 0.6],
            2 | 3 => [0.0, 0.0, 1.0, 0.0],
            _ => [0.0, 0.0, 0.0, 1.0],
        };
        assert_eq!(search(1, 9, model).0.tokens, [0]);
        assert_eq!(search(2, 9, model).0.tokens, [0, 1, 2, 2]);
    }

    #[test]
    fn a_short_text_that_has_ended_does_not_end_the_search_for_longer_ones() {
        // Ends after 0 with 0.4, or goes on with 0.6 and twenty tokens of 0.75: less than a hundredth of 0.4, but likelier by the
        // token.
        let model = |tokens: &[u32]| match tokens {
            [] => [1.0, 0.0, 0.0, 0.0],
            [_] => [0.0, 0.6, 0.0, 0.4],
            [.., 2] => [0.34, 0.33, 0.33, 0.0],
            _ if tokens.len() < 22 => [0.0, 0.75, 0.25, 0.0],
            _ => [0.0, 0.0, 0.0, 1.0],
        };
        let (found, _) = search(2, 99, model);
        assert_eq!(found.tokens, [&[0][..], &[1; 21]].concat());
        assert!((found.avg_logprob - (0.6f32.ln() + 20.0 * 0.75f32.ln()) / 24.0).abs() < 1e-6);
    }

    #[test]
    fn what_greedy_decoding_finds_is_found_though_other_texts_begin_likelier() {
        let model = |tokens: &[u32]| match tokens {
            [] => [0.4, 0.3, 0.3, 0.0],
            [0] => [0.34, 0.33, 0.33, 0.0],
            [1] => [0.5, 0.5, 0.0, 0.0],
            [1, _] => [0.0, 0.0, 0.0, 1.0],
            _ if tokens.len() < 20 => [1.0, 0.0, 0.0, 0.0],
            _ => [0.0, 0.0, 0.0, 1.0],
        };
        let (found, _) = search(2, 99, model);
        assert_eq!(found.tokens, [0; 20]);
        // One that does not end is not: it repeats itself.
        assert_eq!(search(2, 19, model).0.tokens, [1, 0]);
    }

    #[test]
    fn where_no_text_is_the_likeliest_no_text_is_invented() {
        let model = |tokens: &[u32]| match tokens.len() {
            0 => [0.4, 0.0, 0.0, 0.6],
            1..8 => [0.0, 1.0, 0.0, 0.0],
            _ => [0.0, 0.0, 0.0, 1.0],
        };
        let (found, widths) = search(5, 99, model);
        assert_eq!((found.tokens, widths), (vec![], vec![1]));
        assert!((found.avg_logprob - 0.6f32.ln() / 2.0).abs() < 1e-6);
    }

    #[test]
    fn a_text_that_does_not_end_is_cut_at_the_longest_length() {
        let (found, widths) = search(2, 3, |_| [0.6, 0.4, 0.0, 0.0]);
        assert_eq!((found.tokens, widths.len()), (vec![0, 0, 0], 3));
        assert!((found.avg_logprob - 0.6f32.ln() * 3.0 / 4.0).abs() < 1e-6);
    }

    #[test]
    fn logits_that_are_no_numbers_end_the_search_with_an_error() {
        for (temperature, bad) in [(0.0, f32::NAN), (0.5, f32::NAN), (0.0, f32::INFINITY)] {
            let mut search = Search::new(&row(temperature, 2), 9);
            let step = search.step(&rules(), |_, out| {
                *out = vec![0.0, 0.0, 0.0, 0.0, bad];
                Ok(())
            });
            assert!(
                matches!(step, Ok(Some(Err(Error::Internal(text)))) if text.contains("numbers"))
            );
            assert!(search.live().is_empty());
        }
    }
}
