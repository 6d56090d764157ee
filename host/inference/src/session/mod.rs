//! The model's ONNX sessions: frames to encoder states, tokens and states to logits.
//!
//! There are two kinds of graphs: [`built`] here from a checkpoint's weights, and published [`onnx`] files. Only this module and its
//! children use ONNX Runtime types; to others, its types are opaque. On CUDA, the encoder's states and the key-value cache stay in
//! device memory.

mod batch;
mod bound;
mod built;
mod environment;
mod frames;
mod load;
mod onnx;
mod rows;
mod sessions;
mod settings;
#[cfg(test)]
mod shapes;
mod slots;
#[cfg(test)]
mod tests;

pub(crate) use batch::{Logits, States};
pub(crate) use load::load;
pub(crate) use sessions::{Decoder, Sessions};

use crate::Error;

impl From<ort::Error> for Error {
    fn from(error: ort::Error) -> Self {
        Error::Internal(format!("ONNX Runtime: {error}"))
    }
}
