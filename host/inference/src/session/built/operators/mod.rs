//! Custom operators of ONNX Runtime, over the kernels of [`crate::kernels`].

#[cfg(target_arch = "x86_64")]
mod bytes;
mod operator;
mod text;

use ort::operator::OperatorDomain;

use super::graph::CUSTOM;

/// Returns the domain with all custom operators.
pub(super) fn domain() -> ort::Result<OperatorDomain> {
    let domain = OperatorDomain::new(CUSTOM)?.add(text::CachedAttention)?;
    #[cfg(target_arch = "x86_64")]
    let domain = bytes::add(domain)?;
    Ok(domain)
}
