//! Kernels of our own. Plain slices in and out; [`crate::session`] makes operators of them.
//!
//! [`text`] is the decoder's attention to the text so far, on every CPU. The others are for what an int8 model spends its time on
//! beside the products of its weights, which ONNX Runtime does in f32; they need AVX-512 and its products of bytes (VNNI).

#[cfg(target_arch = "x86_64")]
pub(crate) mod attention;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod rows;
pub(crate) mod text;

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

/// Bytes of the packed keys and values of a head.
pub(crate) fn packed_size(positions: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        attention::Layout::new(positions).size()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        unreachable!("nothing is packed for {positions} positions: there is no kernel for it")
    }
}

/// Whether to skip a test of a kernel because this CPU cannot run it; prints that it does.
#[cfg(all(test, target_arch = "x86_64"))]
fn skipped() -> bool {
    let skipped = !is_available();
    if skipped {
        eprintln!("skipped: this CPU has no AVX-512 with VNNI");
    }
    skipped
}
