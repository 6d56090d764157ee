//! What the kernels require, and whether this CPU provides it.

/// The only head dimension that the kernels support: that of every published Whisper model.
pub(crate) const HEAD_DIM: usize = 64;

/// Number of 32-bit lanes in an AVX-512 register.
pub(crate) const LANES: usize = 16;

/// Epsilon of layer normalisation in every Whisper model (PyTorch's default).
pub(crate) const EPSILON: f32 = 1e-5;

/// The zero point of unsigned bytes.
pub(crate) const ZERO_POINT: i32 = 128;

/// Returns whether this CPU can run the kernels for bytes.
pub(crate) fn is_available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}
