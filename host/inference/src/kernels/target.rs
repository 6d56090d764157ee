//! What the kernels are written for, and whether this CPU has it.

/// The only size of a head that these have: that of every published Whisper.
pub(crate) const HEAD_DIM: usize = 64;

/// Numbers of 32 bits that are computed side by side: those in a register of AVX-512.
pub(crate) const LANES: usize = 16;

/// Of every Whisper's layer normalisation (PyTorch's default).
pub(crate) const EPSILON: f32 = 1e-5;

/// What stands for zero in unsigned bytes.
pub(crate) const ZERO_POINT: i32 = 128;

/// Whether this CPU can run the kernels for bytes.
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
