//! Attention with quantised keys and values.
//!
//! ONNX Runtime's attention computes in f32, which takes half of an int8 encoder's time, and reads four times the memory in each
//! step of the decoder. Here the products are of bytes, and everything else is f32:
//! - keys and queries have a scale per position. The mean of all keys is subtracted from each of them, which adds the same to all
//!   scores of a query and so does not change the softmax, but reduces the rounding error;
//! - values have a scale for each of the head's dimensions;
//! - the weights of the softmax have 16 bits, multiplied in two halves: 8 would drop weights below a 510th of the largest, which
//!   together may be most of the sum.

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::avx512::{LANES, LEVELS, exp2, larger, load, scale_of};
use super::target::{HEAD_DIM, ZERO_POINT, is_available};

/// Queries that share each load of the keys.
const QUERIES: usize = 8;

/// Bytes added up in one step of a product.
const STEP: usize = 4;

const STEPS: usize = HEAD_DIM / STEP;

/// Number of registers for a head's dimensions.
const REGISTERS: usize = HEAD_DIM / LANES;

/// The largest weight, as an integer.
const MAX_WEIGHT: f32 = 65_535.0;

/// With more positions, the sum of their weights could overflow an `i32`.
const MAX_POSITIONS: usize = 32_000;

/// The columns of a head in rows of f32, with an optional scale per row: a row is `data * scale + bias`.
#[derive(Clone, Copy)]
pub(crate) struct HeadRows<'a> {
    data: &'a [f32],
    width: usize,
    first: usize,
    scales: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
}

impl<'a> HeadRows<'a> {
    /// The columns of head `head` in `data`, `[rows, width]`.
    ///
    /// # Panics
    /// If the columns are out of range.
    pub fn of(data: &'a [f32], width: usize, head: usize) -> Self {
        let first = head * HEAD_DIM;
        assert!(first + HEAD_DIM <= width && data.len().is_multiple_of(width));
        Self {
            data,
            width,
            first,
            scales: None,
            bias: None,
        }
    }

    /// Sets a scale for each row.
    pub fn with_scales(mut self, scales: &'a [f32]) -> Self {
        assert_eq!(scales.len(), self.rows());
        self.scales = Some(scales);
        self
    }

    /// Sets the bias to add to each column, `[width]`.
    pub fn with_bias(mut self, bias: &'a [f32]) -> Self {
        assert_eq!(bias.len(), self.width);
        self.bias = Some(&bias[self.first..self.first + HEAD_DIM]);
        self
    }

    pub fn rows(&self) -> usize {
        self.data.len() / self.width
    }

    #[target_feature(enable = "avx512f")]
    fn row(&self, index: usize) -> [__m512; REGISTERS] {
        let data = &self.data[index * self.width + self.first..][..HEAD_DIM];
        let scale = _mm512_set1_ps(self.scales.map_or(1.0, |scales| scales[index]));
        std::array::from_fn(|part| {
            let numbers = _mm512_mul_ps(load(data, part * LANES), scale);
            match self.bias {
                Some(bias) => _mm512_add_ps(numbers, load(bias, part * LANES)),
                None => numbers,
            }
        })
    }
}

/// The memory layout of a head's keys and values. In this order: `f32` scales of the keys, `[padded]`; `f32` scales of the values,
/// `[HEAD_DIM]`; keys, in blocks of [`LANES`] positions, `[STEPS, LANES, STEP]` each; values, `[padded / STEP, HEAD_DIM, STEP]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    positions: usize,
    /// Positions, padded to two whole blocks.
    padded: usize,
}

impl Layout {
    /// # Panics
    /// If there are more than [`MAX_POSITIONS`].
    pub fn new(positions: usize) -> Self {
        assert!(
            positions <= MAX_POSITIONS,
            "{positions} positions are too many"
        );
        Self {
            positions,
            padded: positions.next_multiple_of(2 * LANES),
        }
    }

    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Returns the number of bytes of one head.
    pub fn size(&self) -> usize {
        self.values() + self.padded * HEAD_DIM
    }

    fn value_scales(&self) -> usize {
        self.padded * size_of::<f32>()
    }

    fn keys(&self) -> usize {
        self.value_scales() + HEAD_DIM * size_of::<f32>()
    }

    fn values(&self) -> usize {
        self.keys() + self.padded * HEAD_DIM
    }
}

/// Quantises the keys and values of one head into `out`, of [`Layout::size`] bytes.
///
/// # Panics
/// If [`is_available`] is false, or a size does not match `layout`.
pub(crate) fn pack(layout: Layout, keys: HeadRows, values: HeadRows, out: &mut [u8]) {
    assert!(is_available());
    assert_eq!(out.len(), layout.size());
    assert_eq!(
        (keys.rows(), values.rows()),
        (layout.positions, layout.positions)
    );
    // SAFETY: the CPU supports it.
    unsafe { pack_head(layout, keys, values, out) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn pack_head(layout: Layout, keys: HeadRows, values: HeadRows, out: &mut [u8]) {
    let Layout { positions, padded } = layout;
    let (scales, rest) = out.split_at_mut(layout.value_scales());
    let (value_scales, rest) = rest.split_at_mut(layout.keys() - layout.value_scales());
    let (key_bytes, value_bytes) = rest.split_at_mut(padded * HEAD_DIM);

    let mut mean = [_mm512_setzero_ps(); REGISTERS];
    let mut magnitudes = [_mm512_setzero_si512(); REGISTERS];
    for position in 0..positions {
        let (key, value) = (keys.row(position), values.row(position));
        for part in 0..REGISTERS {
            mean[part] = _mm512_add_ps(mean[part], key[part]);
            magnitudes[part] = larger(magnitudes[part], value[part]);
        }
    }
    let count = _mm512_set1_ps(positions as f32);
    let mean = mean.map(|sum| _mm512_div_ps(sum, count));

    let value_scale = magnitudes.map(|magnitude| {
        let scale = _mm512_div_ps(_mm512_castsi512_ps(magnitude), _mm512_set1_ps(LEVELS));
        // If one operand is NaN, this instruction returns the second.
        _mm512_max_ps(_mm512_set1_ps(f32::MIN_POSITIVE), scale)
    });
    let inverse = value_scale.map(|scale| _mm512_div_ps(_mm512_set1_ps(1.0), scale));

    for position in 0..padded {
        let block = &mut key_bytes[position / LANES * LANES * HEAD_DIM..][..LANES * HEAD_DIM];
        let (scale, bytes) = if position < positions {
            let key = keys.row(position);
            let (scale, bytes) = quantise(std::array::from_fn(|part| {
                _mm512_sub_ps(key[part], mean[part])
            }));
            (
                scale,
                bytes.map(|byte| (i32::from(byte) + ZERO_POINT) as u8),
            )
        } else {
            (0.0, [ZERO_POINT as u8; HEAD_DIM])
        };
        scales[position * 4..][..4].copy_from_slice(&scale.to_le_bytes());
        for (step, bytes) in bytes.chunks_exact(STEP).enumerate() {
            block[(step * LANES + position % LANES) * STEP..][..STEP].copy_from_slice(bytes);
        }
    }

    for (part, scale) in value_scale.into_iter().enumerate() {
        // SAFETY: there are as many bytes as scales need.
        unsafe {
            _mm512_storeu_ps(
                value_scales.as_mut_ptr().cast::<f32>().add(part * LANES),
                scale,
            )
        };
    }
    let byte = _mm512_set1_epi32(0xff);
    for (step, bytes) in value_bytes.chunks_exact_mut(HEAD_DIM * STEP).enumerate() {
        let mut joined = [_mm512_setzero_si512(); REGISTERS];
        for place in (0..STEP).rev() {
            let position = step * STEP + place;
            let value = if position < positions {
                let value = values.row(position);
                std::array::from_fn(|part| {
                    _mm512_cvtps_epi32(_mm512_mul_ps(value[part], inverse[part]))
                })
            } else {
                [_mm512_setzero_si512(); REGISTERS]
            };
            for part in 0..REGISTERS {
                let value = _mm512_and_si512(value[part], byte);
                joined[part] = _mm512_or_si512(_mm512_slli_epi32::<8>(joined[part]), value);
            }
        }
        for (part, joined) in joined.into_iter().enumerate() {
            // SAFETY: a chunk has the size of four registers.
            unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().add(part * 64).cast(), joined) };
        }
    }
}

/// Quantises a row: returns its scale and bytes, of which the largest magnitude is 127.
#[target_feature(enable = "avx512f,avx512bw")]
fn quantise(row: [__m512; REGISTERS]) -> (f32, [i8; HEAD_DIM]) {
    let magnitudes = row
        .into_iter()
        .fold(_mm512_setzero_si512(), |magnitudes, part| {
            larger(magnitudes, part)
        });
    let scale = scale_of(magnitudes);
    let inverse = _mm512_set1_ps(1.0 / scale);
    let mut bytes = [0i8; HEAD_DIM];
    for (part, out) in row.into_iter().zip(bytes.chunks_exact_mut(LANES)) {
        let whole = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(part, inverse)));
        // SAFETY: 16 bytes.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), whole) };
    }
    (scale, bytes)
}

/// Buffers for a few queries, kept per thread.
#[derive(Default)]
struct Scratch {
    /// `[QUERIES, padded]` each: scores, and the two halves of the weights.
    scores: Vec<f32>,
    high: Vec<u8>,
    low: Vec<u8>,
}

impl Scratch {
    fn resize(&mut self, layout: Layout) {
        let size = QUERIES * layout.padded;
        self.scores.resize(size, 0.0);
        self.high.resize(size, 0);
        self.low.resize(size, 0);
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The output of a head: [`HEAD_DIM`] columns in rows of f32.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    data: *mut f32,
    width: usize,
    first: usize,
}

impl Output {
    /// The columns of head `head` in `data`, `[rows, width]`.
    ///
    /// # Safety
    /// Nothing else may access these columns of a row while it is written.
    pub unsafe fn of_head(data: *mut f32, width: usize, head: usize) -> Self {
        Self {
            data,
            width,
            first: head * HEAD_DIM,
        }
    }
}

/// Computes the attention of `queries[rows]` to a packed `head`, and writes the results to the same rows of `out`. The weights of the
/// softmax are written to `weights`, `[rows of queries, positions]`, if given.
///
/// # Safety
/// `out` and `weights` must have room for the rows.
///
/// # Panics
/// As [`pack`].
pub(crate) unsafe fn attend(
    layout: Layout,
    head: &[u8],
    queries: HeadRows,
    rows: std::ops::Range<usize>,
    out: Output,
    weights: Option<*mut f32>,
) {
    assert!(is_available());
    assert_eq!(head.len(), layout.size());
    assert!(rows.end <= queries.rows());
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(layout);
        for first in rows.clone().step_by(QUERIES) {
            let of = Queries {
                layout,
                head,
                queries,
                first,
            };
            let count = QUERIES.min(rows.end - first);
            // SAFETY: the CPU supports it, and all sizes have been checked.
            unsafe {
                match count {
                    1 => of.scores::<1>(scratch),
                    2 => of.scores::<2>(scratch),
                    3 => of.scores::<3>(scratch),
                    4 => of.scores::<4>(scratch),
                    5 => of.scores::<5>(scratch),
                    6 => of.scores::<6>(scratch),
                    7 => of.scores::<7>(scratch),
                    _ => of.scores::<QUERIES>(scratch),
                }
                for done in (0..count).step_by(2) {
                    match count - done {
                        1 => of.sum::<1>(done, scratch, out, weights),
                        _ => of.sum::<2>(done, scratch, out, weights),
                    }
                }
            }
        }
    });
}

/// A few queries.
struct Queries<'a> {
    layout: Layout,
    head: &'a [u8],
    queries: HeadRows<'a>,
    /// Row of the first query.
    first: usize,
}

impl Queries<'_> {
    /// Computes the scores of `N` queries, in units of log 2.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn scores<const N: usize>(&self, scratch: &mut Scratch) {
        let Layout { positions, padded } = self.layout;
        let mut bytes = [[0i8; HEAD_DIM]; N];
        let mut scales = [0f32; N];
        let mut zeros = [0i32; N];
        for index in 0..N {
            let (scale, quantised) = quantise(self.queries.row(self.first + index));
            scales[index] = scale * std::f32::consts::LOG2_E / (HEAD_DIM as f32).sqrt();
            zeros[index] = -ZERO_POINT * quantised.iter().map(|&byte| i32::from(byte)).sum::<i32>();
            bytes[index] = quantised;
        }
        let keys = self.head[self.layout.keys()..].as_ptr();
        let key_scales = self.head.as_ptr().cast::<f32>();
        for block in (0..padded).step_by(2 * LANES) {
            let mut sums: [[__m512i; 2]; N] = zeros.map(|zero| [_mm512_set1_epi32(zero); 2]);
            for step in 0..STEPS {
                // SAFETY: there are two blocks of keys with `STEPS` registers each.
                let [one, two] = [block, block + LANES].map(|block| unsafe {
                    _mm512_loadu_si512(keys.add(block * HEAD_DIM + step * LANES * STEP).cast())
                });
                for index in 0..N {
                    // SAFETY: four of the query's bytes.
                    let query = unsafe {
                        bytes[index]
                            .as_ptr()
                            .add(step * STEP)
                            .cast::<i32>()
                            .read_unaligned()
                    };
                    let query = _mm512_set1_epi32(query);
                    sums[index][0] = _mm512_dpbusd_epi32(sums[index][0], one, query);
                    sums[index][1] = _mm512_dpbusd_epi32(sums[index][1], two, query);
                }
            }
            for (part, block) in [block, block + LANES].into_iter().enumerate() {
                // SAFETY: there is a scale for each position, and room for each score.
                unsafe {
                    let key_scale = _mm512_loadu_ps(key_scales.add(block));
                    for index in 0..N {
                        let scale = _mm512_mul_ps(key_scale, _mm512_set1_ps(scales[index]));
                        let score = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[index][part]), scale);
                        let out = scratch.scores.as_mut_ptr().add(index * padded + block);
                        _mm512_storeu_ps(out, score);
                    }
                }
            }
        }
        for index in 0..N {
            scratch.scores[index * padded..][positions..padded].fill(f32::NEG_INFINITY);
        }
    }

    /// Computes the softmax of `N` of the queries, from `done` on, and the values weighted by it.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn sum<const N: usize>(
        &self,
        done: usize,
        scratch: &mut Scratch,
        out: Output,
        weights: Option<*mut f32>,
    ) {
        let Layout { positions, padded } = self.layout;
        let mut totals = [0f32; N];
        for (index, total) in totals.iter_mut().enumerate() {
            let place = (done + index) * padded..(done + index + 1) * padded;
            let scores = &scratch.scores[place.clone()];
            *total = softmax(
                scores,
                &mut scratch.high[place.clone()],
                &mut scratch.low[place],
            );
        }
        let (high, low) = (
            scratch.high[done * padded..].as_ptr(),
            scratch.low[done * padded..].as_ptr(),
        );
        let values = self.head[self.layout.values()..].as_ptr();
        let mut highs = [[_mm512_setzero_si512(); REGISTERS]; N];
        let mut lows = [[_mm512_setzero_si512(); REGISTERS]; N];
        for step in 0..padded / STEP {
            // SAFETY: within the values and the weights of each query.
            unsafe {
                let value: [__m512i; REGISTERS] = std::array::from_fn(|part| {
                    _mm512_loadu_si512(values.add((step * REGISTERS + part) * 64).cast())
                });
                for index in 0..N {
                    let [high, low] = [high, low].map(|half| {
                        let half = half.add(index * padded + step * STEP).cast::<i32>();
                        _mm512_set1_epi32(half.read_unaligned())
                    });
                    for part in 0..REGISTERS {
                        highs[index][part] =
                            _mm512_dpbusd_epi32(highs[index][part], high, value[part]);
                        lows[index][part] =
                            _mm512_dpbusd_epi32(lows[index][part], low, value[part]);
                    }
                }
            }
        }
        let scales = self.head[self.layout.value_scales()..]
            .as_ptr()
            .cast::<f32>();
        for index in 0..N {
            let row = self.first + done + index;
            for part in 0..REGISTERS {
                let high = _mm512_mul_ps(
                    _mm512_cvtepi32_ps(highs[index][part]),
                    _mm512_set1_ps(256.0),
                );
                let sum = _mm512_add_ps(high, _mm512_cvtepi32_ps(lows[index][part]));
                // SAFETY: guaranteed by the caller, and there is a scale for each dimension.
                unsafe {
                    let scale = _mm512_loadu_ps(scales.add(part * LANES));
                    let scale = _mm512_div_ps(scale, _mm512_set1_ps(totals[index]));
                    let out = out.data.add(row * out.width + out.first + part * LANES);
                    _mm512_storeu_ps(out, _mm512_mul_ps(sum, scale));
                }
            }
            if let Some(weights) = weights {
                for position in 0..positions {
                    let place = (done + index) * padded + position;
                    let whole = u16::from_le_bytes([scratch.low[place], scratch.high[place]]);
                    // SAFETY: guaranteed by the caller.
                    unsafe {
                        *weights.add(row * positions + position) = f32::from(whole) / totals[index];
                    }
                }
            }
        }
    }
}

/// Computes `2^(score - largest)` as integers up to [`MAX_WEIGHT`], in two halves, and returns their sum: NaN if a score is NaN.
#[target_feature(enable = "avx512f,avx512bw")]
fn softmax(scores: &[f32], high: &mut [u8], low: &mut [u8]) -> f32 {
    let mut largest = _mm512_set1_ps(f32::NEG_INFINITY);
    let mut nan = 0;
    for scores in scores.chunks_exact(LANES) {
        let scores = load(scores, 0);
        largest = _mm512_max_ps(largest, scores);
        nan |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(scores, scores);
    }
    if nan != 0 {
        return f32::NAN;
    }
    let largest = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    let mut total = _mm512_setzero_si512();
    let halves = high
        .chunks_exact_mut(LANES)
        .zip(low.chunks_exact_mut(LANES));
    for (scores, (high, low)) in scores.chunks_exact(LANES).zip(halves) {
        let score = _mm512_sub_ps(load(scores, 0), largest);
        let weight = _mm512_mul_ps(exp2(score), _mm512_set1_ps(MAX_WEIGHT));
        let weight = _mm512_cvtps_epi32(weight);
        total = _mm512_add_epi32(total, weight);
        // SAFETY: a chunk has 16 bytes.
        unsafe {
            let halves = _mm512_cvtepi32_epi8(_mm512_srli_epi32::<8>(weight));
            _mm_storeu_si128(high.as_mut_ptr().cast(), halves);
            _mm_storeu_si128(low.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(weight));
        }
    }
    _mm512_reduce_add_epi32(total) as f32
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::kernels::skipped;

    /// Random numbers between -1 and 1, `[rows, columns]`, plus an offset per column.
    fn random(rng: &mut StdRng, rows: usize, columns: usize, offset: f32) -> Vec<f32> {
        let offsets: Vec<f32> = (0..columns)
            .map(|_| offset * rng.random_range(-1.0..1.0))
            .collect();
        (0..rows * columns)
            .map(|index| rng.random_range(-1.0..1.0) + offsets[index % columns])
            .collect()
    }

    /// Attention by definition, in f64: the result for one query, and the weights.
    fn expected(query: &[f32], keys: &[f32], values: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let scores: Vec<f64> = keys
            .chunks(HEAD_DIM)
            .map(|key| {
                let products = query
                    .iter()
                    .zip(key)
                    .map(|(&q, &k)| f64::from(q) * f64::from(k));
                products.sum::<f64>() / (HEAD_DIM as f64).sqrt()
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::MIN, f64::max);
        let powers: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let total: f64 = powers.iter().sum();
        let weights: Vec<f64> = powers.iter().map(|power| power / total).collect();
        let answer = (0..HEAD_DIM)
            .map(|column| {
                let values = values.iter().skip(column).step_by(HEAD_DIM);
                weights
                    .iter()
                    .zip(values)
                    .map(|(w, &v)| w * f64::from(v))
                    .sum()
            })
            .collect();
        (answer, weights)
    }

    fn largest_difference(found: &[f32], expected: &[f64]) -> f64 {
        found
            .iter()
            .zip(expected)
            .map(|(&found, expected)| (f64::from(found) - expected).abs())
            .fold(0.0, f64::max)
    }

    #[test]
    fn attention_matches_its_definition_for_every_number_of_queries_and_positions() {
        if skipped() {
            return;
        }
        let mut rng = StdRng::seed_from_u64(0);
        for (rows, positions) in [(1, 1), (2, 31), (3, 32), (7, 33), (8, 1500), (21, 100)] {
            let layout = Layout::new(positions);
            let queries = random(&mut rng, rows, HEAD_DIM, 1.0);
            let scales: Vec<f32> = (1..=rows).map(|row| 2.0 / row as f32).collect();
            let keys = random(&mut rng, positions, HEAD_DIM, 4.0);
            let values = random(&mut rng, positions, HEAD_DIM, 1.0);
            let of = |data| HeadRows::of(data, HEAD_DIM, 0);
            let mut packed = vec![0; layout.size()];
            pack(
                layout,
                of(&keys),
                of(&values).with_bias(&[0.5; HEAD_DIM]),
                &mut packed,
            );

            let mut found = vec![f32::NAN; rows * HEAD_DIM];
            let mut weights = vec![f32::NAN; rows * positions];
            // SAFETY: both have the size that the queries and positions need.
            unsafe {
                attend(
                    layout,
                    &packed,
                    of(&queries)
                        .with_scales(&scales)
                        .with_bias(&[-0.25; HEAD_DIM]),
                    0..rows,
                    Output::of_head(found.as_mut_ptr(), HEAD_DIM, 0),
                    Some(weights.as_mut_ptr()),
                );
            }
            let values: Vec<f32> = values.iter().map(|value| value + 0.5).collect();
            for row in 0..rows {
                let query: Vec<f32> = queries[row * HEAD_DIM..][..HEAD_DIM]
                    .iter()
                    .map(|query| query * scales[row] - 0.25)
                    .collect();
                let (answer, weight) = expected(&query, &keys, &values);
                let found = &found[row * HEAD_DIM..][..HEAD_DIM];
                assert!(
                    largest_difference(found, &answer) < 0.02,
                    "{rows}, {positions}"
                );
                let weights = &weights[row * positions..][..positions];
                assert!(
                    largest_difference(weights, &weight) < 0.01,
                    "{rows}, {positions}"
                );
            }
        }
    }

    #[test]
    fn nan_in_the_input_gives_nan_in_the_result() {
        if skipped() {
            return;
        }
        let layout = Layout::new(40);
        for (part, place) in [0, 1, 2]
            .into_iter()
            .flat_map(|part| [(part, 5), (part, 39 * HEAD_DIM)])
        {
            let mut parts = [const { [1.0; 40 * HEAD_DIM] }; 3];
            parts[part][place] = f32::NAN;
            let [queries, keys, values] = &parts;
            let of = |data| HeadRows::of(data, HEAD_DIM, 0);
            let mut packed = vec![0; layout.size()];
            pack(layout, of(keys), of(values), &mut packed);
            let mut found = [0.0; 40 * HEAD_DIM];
            // SAFETY: there is room for all results.
            unsafe {
                let out = Output::of_head(found.as_mut_ptr(), HEAD_DIM, 0);
                attend(layout, &packed, of(queries), 0..40, out, None);
            }
            assert!(found.iter().any(|x| x.is_nan()), "part {part}, {place}");
        }
    }

    #[test]
    fn many_small_weights_are_not_lost_next_to_a_large_one() {
        if skipped() {
            return;
        }
        // The first position has e^7 times the weight of each of the others, which together have more than half of it.
        let positions = 1500;
        let layout = Layout::new(positions);
        let query = [1.0; HEAD_DIM];
        let mut keys = vec![0.0; positions * HEAD_DIM];
        keys[..HEAD_DIM].fill(7.0 / 8.0);
        let mut values = vec![1.0; positions * HEAD_DIM];
        values[..HEAD_DIM].fill(-1.0);
        let of = |data| HeadRows::of(data, HEAD_DIM, 0);
        let mut packed = vec![0; layout.size()];
        pack(layout, of(&keys), of(&values), &mut packed);
        let mut found = [f32::NAN; HEAD_DIM];
        // SAFETY: there is room for the one result.
        unsafe {
            let target = Output::of_head(found.as_mut_ptr(), HEAD_DIM, 0);
            attend(layout, &packed, of(&query), 0..1, target, None);
        }
        let (answer, _) = expected(&query, &keys, &values);
        assert!(answer[0] > 0.1);
        assert!(
            largest_difference(&found, &answer) < 0.01,
            "{found:?}, {answer:?}"
        );
    }
}
