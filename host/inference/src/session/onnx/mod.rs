//! Models whose graphs come as ONNX files, in the layout of Hugging Face.

mod decoder;
mod encoder;

pub(crate) use decoder::{Decoder, Graphs};
pub(crate) use encoder::Encoder;
