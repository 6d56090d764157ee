//! The precision of a model.

/// The precision of a model's weights, which also selects the files to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// int8 on the CPU, fp16 on CUDA. Of ONNX files, the first complete set: on the CPU int8, then fp32; on CUDA fp16, then fp32;
    /// then any other.
    #[default]
    Auto,
    /// 32 bits. ONNX files have no suffix.
    Fp32,
    /// 16 bits. ONNX files have the suffix `_fp16`.
    Fp16,
    /// 8 bits, with integer products. ONNX files have the suffix `_quantized` or `_int8`.
    Int8,
    /// ONNX files with the suffix `_uint8`.
    Uint8,
    /// ONNX files with the suffix `_q4`.
    Q4,
    /// ONNX files with the suffix `_q4f16`.
    Q4f16,
    /// ONNX files with the suffix `_bnb4`.
    Bnb4,
}

impl Precision {
    pub(super) fn suffixes(self) -> &'static [&'static str] {
        match self {
            Precision::Auto => &[],
            Precision::Fp32 => &[""],
            Precision::Fp16 => &["_fp16"],
            Precision::Int8 => &["_quantized", "_int8"],
            Precision::Uint8 => &["_uint8"],
            Precision::Q4 => &["_q4"],
            Precision::Q4f16 => &["_q4f16"],
            Precision::Bnb4 => &["_bnb4"],
        }
    }

    /// Returns whether only ONNX files have this precision.
    pub(super) fn is_onnx_only(self) -> bool {
        use Precision::*;
        matches!(self, Uint8 | Q4 | Q4f16 | Bnb4)
    }

    /// Returns the precision of a checkpoint's computation if this one is requested.
    pub(crate) fn for_checkpoint(self, cuda: bool) -> Precision {
        match self {
            Precision::Auto if cuda => Precision::Fp16,
            Precision::Auto => Precision::Int8,
            other => other,
        }
    }

    /// Returns whether, with ONNX files, a window's text does not depend on the other windows of its batch. Integer files quantise the
    /// activations of a whole batch with one scale, so with them it would.
    pub(crate) fn batches(self) -> bool {
        !matches!(self, Precision::Int8 | Precision::Uint8)
    }

    /// Returns the precisions to try, in order.
    pub(super) fn candidates(self, cuda: bool) -> Vec<Precision> {
        use Precision::*;
        match (self, cuda) {
            (Auto, false) => vec![Int8, Fp32, Uint8, Q4, Fp16, Q4f16, Bnb4],
            (Auto, true) => vec![Fp16, Fp32, Q4f16, Q4, Int8, Uint8, Bnb4],
            (one, _) => vec![one],
        }
    }
}
