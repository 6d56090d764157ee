//! Functions shared by the kernels.

use std::arch::x86_64::*;

pub(super) use super::target::LANES;

/// The largest magnitude of a quantised number.
pub(super) const LEVELS: f32 = 127.0;

/// Loads the numbers at `place`.
#[target_feature(enable = "avx512f")]
pub(super) fn load(data: &[f32], place: usize) -> __m512 {
    let data = &data[place..place + LANES];
    // SAFETY: the slice has as many numbers as a register.
    unsafe { _mm512_loadu_ps(data.as_ptr()) }
}

/// Stores the numbers at `place`.
#[target_feature(enable = "avx512f")]
pub(super) fn store(data: &mut [f32], place: usize, numbers: __m512) {
    let data = &mut data[place..place + LANES];
    // SAFETY: the slice has as many numbers as a register.
    unsafe { _mm512_storeu_ps(data.as_mut_ptr(), numbers) };
}

/// Returns the larger magnitudes, kept as bits, of which NaN's are above all others.
#[target_feature(enable = "avx512f")]
pub(super) fn larger(magnitudes: __m512i, numbers: __m512) -> __m512i {
    _mm512_max_epu32(magnitudes, _mm512_castps_si512(_mm512_abs_ps(numbers)))
}

/// Returns the scale that maps the largest of these magnitudes to [`LEVELS`]; NaN if that is NaN.
#[target_feature(enable = "avx512f")]
pub(super) fn scale_of(magnitudes: __m512i) -> f32 {
    let scale = f32::from_bits(_mm512_reduce_max_epu32(magnitudes)) / LEVELS;
    if scale < f32::MIN_POSITIVE {
        f32::MIN_POSITIVE
    } else {
        scale
    }
}

/// Computes `2^x` for x up to 0, with a relative error of up to 3.3e-6: the power of the nearest integer, times the first terms of
/// the series. NaN stays NaN.
#[target_feature(enable = "avx512f")]
pub(super) fn exp2(x: __m512) -> __m512 {
    // If one operand is NaN, this instruction returns the second.
    let x = _mm512_max_ps(_mm512_set1_ps(-126.0), x);
    let whole = _mm512_roundscale_ps::<0>(x);
    let rest = _mm512_sub_ps(x, whole);
    // ln(2)^n / n!
    let mut sum = _mm512_set1_ps(0.001_333_355_8);
    for term in [
        0.009_618_129,
        0.055_504_11,
        0.240_226_5,
        std::f32::consts::LN_2,
        1.0,
    ] {
        sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(term));
    }
    _mm512_scalef_ps(sum, whole)
}
