//! The weights of a model, as faster-whisper and transformers publish them.
//!
//! Files are mapped, not read: a [`View`] is a place in one. [`Checkpoint`] gives the tensors their meaning, whatever the
//! file calls them; [`Matrix::fill`] makes numbers of them, in the form that a graph asks for. Nothing here knows ONNX Runtime.

mod checkpoint;
mod ctranslate2;
mod matrix;
mod prepared;
mod safetensors;
mod view;

pub(crate) use checkpoint::{Affine, Checkpoint, FeedForward, KERNEL, Norm};
pub(crate) use matrix::{BLOCK, Form, Matrix};
pub(crate) use prepared::Prepared;
pub(crate) use safetensors::shards;
pub(crate) use view::{Element, View, forget};

#[cfg(test)]
pub(crate) use view::tests::view_of;
