//! Self-attention of the decoder to the text so far, whose keys and values stay in place from step to step.
//!
//! Each token's keys and values are in a slot, and a row, which is a hypothesis of a beam search, is the list of its tokens' slots.
//! Hypotheses that continue the same text share its slots: selecting hypotheses only copies lists, and a prompt is stored and read
//! once for all hypotheses of a window. ONNX Runtime's attention stores everything for every row, and copies all of it in each step.
//!
//! Everything is f32.

use std::ops::Range;

use super::target::LANES;

/// The keys and values of one layer.
#[derive(Debug)]
pub(crate) struct TextCache {
    heads: usize,
    head_dim: usize,
    /// Number of slots there is room for.
    capacity: usize,
    /// `[heads, capacity, head_dim]` each.
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// The tokens of one run of the decoder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens<'a> {
    /// Queries, keys and values, `[rows * tokens, 3 * width]`.
    pub projected: &'a [f32],
    /// The slots of each row's tokens in their order, those of this run last, `[rows, total]`.
    pub slots: &'a [i64],
    pub total: usize,
    /// Number of tokens of each row in this run.
    pub tokens: usize,
}

/// One head of a [`TextCache`].
pub(crate) struct Head<'a> {
    dimensions: Range<usize>,
    width: usize,
    keys: &'a mut [f32],
    values: &'a mut [f32],
}

impl TextCache {
    /// Creates a cache without slots.
    pub fn new(heads: usize, head_dim: usize) -> Self {
        Self {
            heads,
            head_dim,
            capacity: 0,
            keys: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Makes room for at least `slots`, keeping their contents.
    pub fn reserve(&mut self, slots: usize) {
        if slots <= self.capacity {
            return;
        }
        let capacity = slots.max(2 * self.capacity).next_multiple_of(64);
        for data in [&mut self.keys, &mut self.values] {
            let mut grown = vec![0.0; self.heads * capacity * self.head_dim];
            if self.capacity > 0 {
                let heads = grown.chunks_exact_mut(capacity * self.head_dim);
                for (new, old) in heads.zip(data.chunks_exact(self.capacity * self.head_dim)) {
                    new[..old.len()].copy_from_slice(old);
                }
            }
            *data = grown;
        }
        self.capacity = capacity;
    }

    /// Returns all heads, in order.
    pub fn heads(&mut self) -> impl Iterator<Item = Head<'_>> {
        let (head_dim, width) = (self.head_dim, self.heads * self.head_dim);
        let size = (self.capacity * head_dim).max(1);
        let keys = self.keys.chunks_exact_mut(size);
        keys.zip(self.values.chunks_exact_mut(size))
            .enumerate()
            .map(move |(index, (keys, values))| Head {
                dimensions: index * head_dim..(index + 1) * head_dim,
                width,
                keys,
                values,
            })
    }
}

impl Head<'_> {
    /// Stores the keys and values of the tokens, and computes the attention of each to the text up to itself. `output` is called with
    /// the index of the token in `[rows * tokens]`, this head's columns of the width, and the result.
    ///
    /// # Panics
    /// If there are more slots than have been reserved, or sizes do not match.
    pub fn attend(&mut self, tokens: Tokens, mut output: impl FnMut(usize, Range<usize>, &[f32])) {
        let head_dim = self.dimensions.len();
        let count = tokens.projected.len() / (3 * self.width);
        for token in 0..count {
            let text = tokens.text(token);
            let place = text[text.len() - 1] as usize * head_dim;
            let [_, key, value] = self.parts(tokens.projected, token);
            self.keys[place..][..head_dim].copy_from_slice(key);
            self.values[place..][..head_dim].copy_from_slice(value);
        }
        let attend = kernel(head_dim);
        let mut weights = vec![0.0; tokens.total.next_multiple_of(LANES)];
        let mut sum = vec![0.0; head_dim];
        for token in 0..count {
            let [query, ..] = self.parts(tokens.projected, token);
            let text = Text {
                slots: tokens.text(token),
                keys: self.keys,
                values: self.values,
            };
            attend(query, text, &mut weights, &mut sum);
            output(token, self.dimensions.clone(), &sum);
        }
    }

    /// Returns this head's columns of a token's query, key and value.
    fn parts<'a>(&self, projected: &'a [f32], token: usize) -> [&'a [f32]; 3] {
        let projected = &projected[token * 3 * self.width..][..3 * self.width];
        std::array::from_fn(|part| &projected[part * self.width..][self.dimensions.clone()])
    }
}

impl<'a> Tokens<'a> {
    /// Returns the slots of the text up to and including a token.
    fn text(&self, token: usize) -> &'a [i64] {
        let (row, token) = (token / self.tokens, token % self.tokens);
        &self.slots[row * self.total..][..self.total - self.tokens + token + 1]
    }
}

/// The text that a token attends to.
#[derive(Clone, Copy)]
struct Text<'a> {
    slots: &'a [i64],
    /// `[capacity, head_dim]` each.
    keys: &'a [f32],
    values: &'a [f32],
}

impl<'a> Text<'a> {
    fn rows(self, of: &'a [f32], head_dim: usize) -> impl Iterator<Item = &'a [f32]> {
        let slots = self.slots.iter();
        slots.map(move |&slot| &of[slot as usize * head_dim..][..head_dim])
    }
}

/// Computes the attention of a query to a text. The third argument has room for a weight per slot, rounded up to a multiple of
/// [`LANES`]; the result is written to the last.
type Attend = fn(&[f32], Text, &mut [f32], &mut [f32]);

/// Returns the fastest kernel for this CPU and head dimension.
fn kernel(head_dim: usize) -> Attend {
    #[cfg(target_arch = "x86_64")]
    if head_dim == super::HEAD_DIM && is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU supports it.
        return |query, text, weights, out| unsafe { x86::attend(query, text, weights, out) };
    }
    let _ = head_dim;
    attend
}

fn attend(query: &[f32], text: Text, weights: &mut [f32], answer: &mut [f32]) {
    let scale = (query.len() as f32).sqrt().recip();
    let weights = &mut weights[..text.slots.len()];
    for (weight, key) in weights.iter_mut().zip(text.rows(text.keys, query.len())) {
        *weight = dot(query, key) * scale;
    }
    let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for weight in &mut *weights {
        *weight = (*weight - largest).exp();
        sum += *weight;
    }
    answer.fill(0.0);
    for (&weight, value) in weights.iter().zip(text.rows(text.values, query.len())) {
        for (answer, value) in answer.iter_mut().zip(value) {
            *answer += weight / sum * value;
        }
    }
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    let ((one, one_rest), (other, other_rest)) =
        (one.as_chunks::<LANES>(), other.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (one, other) in one.iter().zip(other) {
        for lane in 0..LANES {
            sums[lane] += one[lane] * other[lane];
        }
    }
    let rest = one_rest
        .iter()
        .zip(other_rest)
        .map(|(one, other)| one * other);
    sums.into_iter().chain(rest).sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::f32::consts::LOG2_E;

    use super::Text;
    use crate::kernels::HEAD_DIM;
    use crate::kernels::avx512::{exp2, load, store};
    use crate::kernels::target::LANES;

    const REGISTERS: usize = HEAD_DIM / LANES;

    #[target_feature(enable = "avx512f")]
    pub(super) fn attend(query: &[f32], text: Text, weights: &mut [f32], answer: &mut [f32]) {
        let scale = _mm512_set1_ps(LOG2_E / (HEAD_DIM as f32).sqrt());
        let query = registers(query).map(|query| _mm512_mul_ps(query, scale));
        let count = text.slots.len();
        let weights = &mut weights[..count.next_multiple_of(LANES)];
        weights[count..].fill(f32::NEG_INFINITY);
        for (weight, key) in weights.iter_mut().zip(text.rows(text.keys, HEAD_DIM)) {
            let key = registers(key);
            let mut sums = _mm512_mul_ps(query[0], key[0]);
            for part in 1..REGISTERS {
                sums = _mm512_fmadd_ps(query[part], key[part], sums);
            }
            *weight = _mm512_reduce_add_ps(sums);
        }

        let mut largest = load(weights, 0);
        for place in (LANES..weights.len()).step_by(LANES) {
            largest = _mm512_max_ps(largest, load(weights, place));
        }
        let largest = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
        let mut sums = _mm512_setzero_ps();
        for place in (0..weights.len()).step_by(LANES) {
            let weight = exp2(_mm512_sub_ps(load(weights, place), largest));
            sums = _mm512_add_ps(sums, weight);
            store(weights, place, weight);
        }
        let sum = _mm512_set1_ps(_mm512_reduce_add_ps(sums));

        let mut sums = [_mm512_setzero_ps(); REGISTERS];
        for (&weight, value) in weights.iter().zip(text.rows(text.values, HEAD_DIM)) {
            let (weight, value) = (_mm512_set1_ps(weight), registers(value));
            for part in 0..REGISTERS {
                sums[part] = _mm512_fmadd_ps(weight, value[part], sums[part]);
            }
        }
        for (part, sums) in sums.into_iter().enumerate() {
            store(answer, part * LANES, _mm512_div_ps(sums, sum));
        }
    }

    #[target_feature(enable = "avx512f")]
    fn registers(row: &[f32]) -> [__m512; REGISTERS] {
        std::array::from_fn(|part| load(row, part * LANES))
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::*;

    /// Attention by definition, in f64.
    fn expected(query: &[f32], keys: &[&[f32]], values: &[&[f32]]) -> Vec<f64> {
        let product = |key: &[f32]| -> f64 {
            let products = query.iter().zip(key);
            products.map(|(&q, &k)| f64::from(q) * f64::from(k)).sum()
        };
        let scale = (query.len() as f64).sqrt();
        let weights: Vec<f64> = keys
            .iter()
            .map(|key| (product(key) / scale).exp())
            .collect();
        let sum: f64 = weights.iter().sum();
        (0..query.len())
            .map(|column| {
                let parts = weights.iter().zip(values);
                parts
                    .map(|(weight, value)| weight / sum * f64::from(value[column]))
                    .sum()
            })
            .collect()
    }

    /// Runs the attention on the inputs, by `[row][token]`, and returns the results of all heads.
    fn run(cache: &mut TextCache, projected: &[Vec<Vec<f32>>], slots: &[&[i64]]) -> Vec<Vec<f32>> {
        let (heads, tokens) = (cache.heads, projected[0].len());
        let width = heads * cache.head_dim;
        cache.reserve(1 + slots.iter().copied().flatten().copied().max().unwrap() as usize);
        let slots_of_all = slots.concat();
        let projected = projected.concat().concat();
        let tokens = Tokens {
            projected: &projected,
            slots: &slots_of_all,
            total: slots[0].len(),
            tokens,
        };
        let mut answers = vec![vec![f32::NAN; width]; projected.len() / (3 * width)];
        for mut head in cache.heads() {
            head.attend(tokens, |token, columns, answer| {
                answers[token][columns].copy_from_slice(answer);
            });
        }
        answers
    }

    #[test]
    fn tokens_attend_to_their_own_text_with_shared_slots() {
        // Heads of 64 have a separate kernel on some CPUs; 20 is not a multiple of the number of lanes.
        for head_dim in [64, 20] {
            let mut rng = StdRng::seed_from_u64(0);
            let width = 2 * head_dim;
            let mut token = || -> Vec<f32> {
                (0..3 * width)
                    .map(|_| rng.random_range(-1.5..1.5))
                    .collect()
            };
            let mut cache = TextCache::new(2, head_dim);
            // A prompt of 70 tokens, which three hypotheses continue, in slots that the cache has to grow for.
            let prompt: Vec<_> = (0..70).map(|_| token()).collect();
            let slots: Vec<i64> = (0..70).collect();
            let first = run(&mut cache, std::slice::from_ref(&prompt), &[&slots]);
            let hypotheses = [vec![token()], vec![token()], vec![token()]];
            let slots_of = |slot| [&slots[..], &[slot]].concat();
            let slots = [slots_of(300), slots_of(70), slots_of(129)];
            let slots = slots.each_ref().map(Vec::as_slice);
            let second = run(&mut cache, &hypotheses, &slots);

            let check = |text: &[&[f32]], answer: &[f32]| {
                for head in 0..2 {
                    let columns = |part: usize| {
                        let first = part * width + head * head_dim;
                        move |token: &&'_ [f32]| -> Vec<f32> { token[first..][..head_dim].to_vec() }
                    };
                    let query = columns(0)(&text[text.len() - 1]);
                    let keys: Vec<_> = text.iter().map(columns(1)).collect();
                    let values: Vec<_> = text.iter().map(columns(2)).collect();
                    let keys: Vec<_> = keys.iter().map(Vec::as_slice).collect();
                    let values: Vec<_> = values.iter().map(Vec::as_slice).collect();
                    let expected = expected(&query, &keys, &values);
                    let found = &answer[head * head_dim..][..head_dim];
                    for (found, expected) in found.iter().zip(expected) {
                        assert!((f64::from(*found) - expected).abs() < 1e-5);
                    }
                }
            };
            let prompt: Vec<_> = prompt.iter().map(Vec::as_slice).collect();
            for (index, answer) in first.iter().enumerate() {
                check(&prompt[..=index], answer);
            }
            for (hypothesis, answer) in hypotheses.iter().zip(&second) {
                check(&[&prompt[..], &[&hypothesis[0]]].concat(), answer);
            }
        }
    }

    #[test]
    fn nan_in_the_input_gives_nan_in_the_result() {
        for part in 0..3 {
            let mut token = vec![1.0; 3 * 64];
            token[part * 64 + 5] = f32::NAN;
            let answers = run(&mut TextCache::new(1, 64), &[vec![token]], &[&[0]]);
            assert!(answers[0].iter().any(|x| x.is_nan()), "part {part}");
        }
    }
}
