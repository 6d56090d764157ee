//! The row operations of an int8 encoder between its products of bytes: each kernel takes the output of one product and produces the
//! input of the next, so that a row is read and written once.
//!
//! A quantised row has a scale that maps its largest magnitude to 127, and bytes around [`ZERO_POINT`]. If a row contains NaN or
//! infinity, everything computed with its scale is NaN.

use std::arch::x86_64::*;

use super::avx512::{LANES, exp2, larger, load, scale_of, store};
use super::target::{EPSILON, ZERO_POINT, is_available};

/// A row of a product of quantised rows, which represents `values * scale + bias`.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub values: &'a [f32],
    pub scale: f32,
    pub bias: &'a [f32],
}

/// Quantises `row` into `bytes`, and returns its scale.
///
/// # Panics
/// Like all functions here, if [`is_available`] is false, or if sizes differ or are not multiples of 16.
pub(crate) fn quantise(row: &[f32], bytes: &mut [u8]) -> f32 {
    check(row.len(), &[bytes.len()]);
    // SAFETY: the CPU supports it, and the sizes match.
    unsafe { quantise_by(row, bytes, scale_of_row(row)) }
}

/// Writes `sum + product` to `new_sum` and its quantised layer normalisation to `bytes`, and returns the scale.
pub(crate) fn normalise(
    sum: &[f32],
    product: Product,
    gamma: &[f32],
    beta: &[f32],
    new_sum: &mut [f32],
    bytes: &mut [u8],
    scratch: &mut Vec<f32>,
) -> f32 {
    let Product { values, bias, .. } = product;
    let others = [values, bias, gamma, beta, new_sum].map(|data| data.len());
    check(sum.len(), &others);
    check(sum.len(), &[bytes.len()]);
    scratch.resize(sum.len(), 0.0);
    // SAFETY: the CPU supports it, and the sizes match.
    unsafe { normalise_row(sum, product, gamma, beta, new_sum, bytes, scratch) }
}

/// Quantises the Gaussian error linear unit of `product` into `bytes`, and returns the scale.
pub(crate) fn gelu(product: Product, bytes: &mut [u8], scratch: &mut Vec<f32>) -> f32 {
    check(product.values.len(), &[product.bias.len(), bytes.len()]);
    scratch.resize(bytes.len(), 0.0);
    // SAFETY: the CPU supports it, and the sizes match.
    unsafe { gelu_row(product, bytes, scratch) }
}

fn check(size: usize, others: &[usize]) {
    assert!(is_available());
    assert!(size.is_multiple_of(LANES) && others.iter().all(|&other| other == size));
}

#[target_feature(enable = "avx512f")]
fn scale_of_row(row: &[f32]) -> f32 {
    let mut magnitudes = _mm512_setzero_si512();
    for place in (0..row.len()).step_by(LANES) {
        magnitudes = larger(magnitudes, load(row, place));
    }
    scale_of(magnitudes)
}

#[target_feature(enable = "avx512f,avx512bw")]
fn quantise_by(row: &[f32], bytes: &mut [u8], scale: f32) -> f32 {
    let inverse = _mm512_set1_ps(1.0 / scale);
    let zero = _mm512_set1_epi32(ZERO_POINT);
    for place in (0..row.len()).step_by(LANES) {
        let whole = _mm512_cvtps_epi32(_mm512_mul_ps(load(row, place), inverse));
        let whole = _mm512_cvtusepi32_epi8(_mm512_add_epi32(whole, zero));
        let bytes = &mut bytes[place..place + LANES];
        // SAFETY: there is a byte for each number.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), whole) };
    }
    scale
}

impl Product<'_> {
    #[target_feature(enable = "avx512f")]
    fn at(&self, place: usize) -> __m512 {
        let scale = _mm512_set1_ps(self.scale);
        _mm512_fmadd_ps(load(self.values, place), scale, load(self.bias, place))
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn normalise_row(
    sum: &[f32],
    product: Product,
    gamma: &[f32],
    beta: &[f32],
    new_sum: &mut [f32],
    bytes: &mut [u8],
    scratch: &mut [f32],
) -> f32 {
    let size = sum.len();
    let mut total = _mm512_setzero_ps();
    for place in (0..size).step_by(LANES) {
        let x = _mm512_add_ps(load(sum, place), product.at(place));
        store(new_sum, place, x);
        total = _mm512_add_ps(total, x);
    }
    let mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) / size as f32);
    let mut squares = _mm512_setzero_ps();
    for place in (0..size).step_by(LANES) {
        let x = _mm512_sub_ps(load(new_sum, place), mean);
        squares = _mm512_fmadd_ps(x, x, squares);
    }
    let variance = _mm512_reduce_add_ps(squares) / size as f32;
    let inverse = _mm512_set1_ps(1.0 / (variance + EPSILON).sqrt());
    let mut magnitudes = _mm512_setzero_si512();
    for place in (0..size).step_by(LANES) {
        let x = _mm512_mul_ps(_mm512_sub_ps(load(new_sum, place), mean), inverse);
        let y = _mm512_fmadd_ps(x, load(gamma, place), load(beta, place));
        magnitudes = larger(magnitudes, y);
        store(scratch, place, y);
    }
    quantise_by(scratch, bytes, scale_of(magnitudes))
}

#[target_feature(enable = "avx512f,avx512bw")]
fn gelu_row(product: Product, bytes: &mut [u8], scratch: &mut [f32]) -> f32 {
    let mut magnitudes = _mm512_setzero_si512();
    for place in (0..scratch.len()).step_by(LANES) {
        let x = product.at(place);
        let y = _mm512_mul_ps(x, normal_distribution(x));
        magnitudes = larger(magnitudes, y);
        store(scratch, place, y);
    }
    quantise_by(scratch, bytes, scale_of(magnitudes))
}

/// The standard normal distribution function, within 8e-7: `(1 + erf(x / √2)) / 2`, by formula 7.1.26 of Abramowitz and Stegun,
/// Handbook of Mathematical Functions.
#[target_feature(enable = "avx512f")]
fn normal_distribution(x: __m512) -> __m512 {
    let one = _mm512_set1_ps(1.0);
    let z = _mm512_mul_ps(
        _mm512_abs_ps(x),
        _mm512_set1_ps(std::f32::consts::FRAC_1_SQRT_2),
    );
    let t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.327_591_1), one));
    let mut sum = _mm512_set1_ps(1.061_405_4);
    for term in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(term));
    }
    let square = _mm512_mul_ps(
        _mm512_mul_ps(z, z),
        _mm512_set1_ps(-std::f32::consts::LOG2_E),
    );
    let half = _mm512_mul_ps(_mm512_set1_ps(0.5), exp2(square));
    let tail = _mm512_mul_ps(_mm512_mul_ps(sum, t), half);
    let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm512_setzero_ps());
    _mm512_mask_blend_ps(negative, _mm512_sub_ps(one, tail), tail)
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::kernels::skipped;

    fn random(rng: &mut StdRng, size: usize) -> Vec<f32> {
        (0..size).map(|_| rng.random_range(-3.0..3.0)).collect()
    }

    /// Asserts that the bytes with their scale represent `expected` as closely as possible.
    fn assert_close(bytes: &[u8], scale: f32, expected: &[f64]) {
        let largest = expected
            .iter()
            .fold(0.0f64, |largest, x| largest.max(x.abs()));
        assert!((f64::from(scale) * 127.0 - largest).abs() < 1e-5 * largest);
        for (&byte, expected) in bytes.iter().zip(expected) {
            let found = f64::from(i32::from(byte) - ZERO_POINT) * f64::from(scale);
            assert!(
                (found - expected).abs() < f64::from(scale) * 0.501,
                "{found}, {expected}"
            );
        }
    }

    #[test]
    fn a_row_is_quantised_to_the_nearest_bytes() {
        if skipped() {
            return;
        }
        let row = random(&mut StdRng::seed_from_u64(0), 64);
        let mut bytes = [0; 64];
        let scale = quantise(&row, &mut bytes);
        assert_close(
            &bytes,
            scale,
            &row.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(),
        );
        // A row of zeros has no largest magnitude.
        quantise(&[0.0; 64], &mut bytes);
        assert_eq!(bytes, [ZERO_POINT as u8; 64]);
    }

    #[test]
    fn non_finite_numbers_make_the_scale_of_their_row_non_finite() {
        if skipped() {
            return;
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 17, 63] {
                let mut row = [1.0; 64];
                row[place] = bad;
                let product = Product {
                    values: &row,
                    scale: 1.0,
                    bias: &[0.0; 64],
                };
                let (mut sum, mut bytes, mut scratch) = ([0.0; 64], [0; 64], Vec::new());
                for scale in [
                    quantise(&row, &mut bytes),
                    gelu(product, &mut bytes, &mut scratch),
                    normalise(
                        &[1.0; 64],
                        product,
                        &[1.0; 64],
                        &[0.0; 64],
                        &mut sum,
                        &mut bytes,
                        &mut scratch,
                    ),
                ] {
                    // The activation of negative infinity is zero.
                    let activated_away = bad == f32::NEG_INFINITY && scale > 0.0;
                    assert!(
                        !scale.is_finite() || activated_away,
                        "{bad} at {place}: {scale}"
                    );
                }
            }
        }
    }

    #[test]
    fn layer_normalisation_matches_its_definition() {
        if skipped() {
            return;
        }
        let mut rng = StdRng::seed_from_u64(1);
        let [sum, values, bias, gamma, beta] = std::array::from_fn(|_| random(&mut rng, 96));
        let (mut new_sum, mut bytes) = (vec![0.0; 96], vec![0; 96]);
        let product = Product {
            values: &values,
            scale: 0.5,
            bias: &bias,
        };
        let scale = normalise(
            &sum,
            product,
            &gamma,
            &beta,
            &mut new_sum,
            &mut bytes,
            &mut Vec::new(),
        );
        let x: Vec<f64> = (0..96)
            .map(|i| f64::from(sum[i]) + f64::from(values[i]) * 0.5 + f64::from(bias[i]))
            .collect();
        for (found, expected) in new_sum.iter().zip(&x) {
            assert!((f64::from(*found) - expected).abs() < 1e-5);
        }
        let mean = x.iter().sum::<f64>() / 96.0;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 96.0;
        let expected: Vec<f64> = (0..96)
            .map(|i| {
                (x[i] - mean) / (variance + 1e-5).sqrt() * f64::from(gamma[i]) + f64::from(beta[i])
            })
            .collect();
        assert_close(&bytes, scale, &expected);
    }

    #[test]
    fn the_gaussian_error_linear_unit_is_within_a_millionth() {
        if skipped() {
            return;
        }
        // Φ(x), from the error function of the GNU C library.
        for (x, expected) in [
            (-0.8325f32, 0.202_563_1),
            (-6.0, 9.865876e-10),
            (-1.0, 0.158_655_253_9),
            (-0.1, 0.460_172_162_7),
            (0.0, 0.5),
            (0.5, 0.691_462_461_3),
            (2.0, 0.977_249_868_1),
            (9.0, 1.0),
        ] {
            let mut found = [0.0f32; LANES];
            // SAFETY: the CPU supports it.
            unsafe { store(&mut found, 0, normal_distribution(_mm512_set1_ps(x))) };
            assert!(
                (f64::from(found[0]) - expected).abs() < 1e-6,
                "{x}: {found:?}"
            );
        }
        let mut bytes = [0; LANES];
        let product = Product {
            values: &[2.0; LANES],
            scale: 0.25,
            bias: &[0.5; LANES],
        };
        let scale = gelu(product, &mut bytes, &mut Vec::new());
        assert!((scale * 127.0 - 0.841_344_8).abs() < 1e-5);
        assert_eq!(bytes, [255; LANES]);
    }
}
