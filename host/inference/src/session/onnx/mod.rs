//! Models with graphs in ONNX files, in the layout of Hugging Face.

mod decoder;
mod encoder;

pub(crate) use decoder::Decoder;
pub(super) use decoder::Graphs;
pub(crate) use encoder::Encoder;
