//! ONNX Runtime operators over the kernels of [`crate::kernels`].

#[cfg(target_arch = "x86_64")]
mod bytes;
mod operator;
mod text;

use ort::operator::OperatorDomain;

use super::graph::OWN;

/// All of them.
pub(super) fn domain() -> ort::Result<OperatorDomain> {
    let domain = OperatorDomain::new(OWN)?.add(text::CachedAttention)?;
    #[cfg(target_arch = "x86_64")]
    let domain = bytes::add(domain)?;
    Ok(domain)
}
