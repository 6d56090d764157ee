//! Custom kernels, over plain slices; [`crate::session`] wraps them as operators.
//!
//! [`text`] is the decoder's attention to the text so far, on every CPU. The others are what an int8 model spends its time on apart
//! from the products with its weights, which ONNX Runtime computes in f32; they need AVX-512 and its products of bytes (VNNI).

#[cfg(target_arch = "x86_64")]
pub(crate) mod attention;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod rows;
mod target;
pub(crate) mod text;

pub(crate) use target::{EPSILON, HEAD_DIM, ZERO_POINT, is_available};

/// Returns the number of bytes of a head's packed keys and values.
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

/// Returns whether to skip a test of a kernel because this CPU cannot run it, and prints so.
#[cfg(all(test, target_arch = "x86_64"))]
fn skipped() -> bool {
    let skipped = !is_available();
    if skipped {
        eprintln!("skipped: this CPU has no AVX-512 with VNNI");
    }
    skipped
}
