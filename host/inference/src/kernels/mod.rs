//! Kernels of our own, for what ONNX Runtime has no fast operator for. Plain slices in and out; [`crate::session`] makes
//! operators of them.

#[cfg(target_arch = "x86_64")]
pub(crate) mod attention;

/// Whether there is a kernel for attention to quantised keys and values, on this CPU and for heads of that size.
pub(crate) fn attends_in_bytes(head_dim: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        head_dim == attention::HEAD_DIM && attention::is_available()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = head_dim;
        false
    }
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
