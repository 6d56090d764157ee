//! What a model computes with.

/// The precision of a model's weights, and so which files are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// On the CPU int8, on CUDA fp16. Of ONNX files what there is a complete set of: on the CPU int8, else fp32; on CUDA fp16, else
    /// fp32; else any.
    #[default]
    Auto,
    /// 32 bits. ONNX files have no suffix.
    Fp32,
    /// 16 bits. ONNX files have the suffix `_fp16`.
    Fp16,
    /// 8 bits, and integer products. ONNX files have the suffix `_quantized` or `_int8`.
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

    /// Whether only ONNX files come in it.
    pub(super) fn is_of_onnx_only(self) -> bool {
        use Precision::*;
        matches!(self, Uint8 | Q4 | Q4f16 | Bnb4)
    }

    /// What a checkpoint is computed with where this is asked for.
    pub(crate) fn of_checkpoint(self, cuda: bool) -> Precision {
        match self {
            Precision::Auto if cuda => Precision::Fp16,
            Precision::Auto => Precision::Int8,
            other => other,
        }
    }

    /// Whether a window's text from ONNX files is the same whatever other windows are in its batch. Integer files quantise the
    /// activations of a whole batch with one scale, so there each window would depend on its neighbours.
    pub(crate) fn batches(self) -> bool {
        !matches!(self, Precision::Int8 | Precision::Uint8)
    }

    /// What to try, in order.
    pub(super) fn candidates(self, cuda: bool) -> Vec<Precision> {
        use Precision::*;
        match (self, cuda) {
            (Auto, false) => vec![Int8, Fp32, Uint8, Q4, Fp16, Q4f16, Bnb4],
            (Auto, true) => vec![Fp16, Fp32, Q4f16, Q4, Int8, Uint8, Bnb4],
            (one, _) => vec![one],
        }
    }
}
