//! The weights of a model, in the formats of faster-whisper and transformers.
//!
//! Files are mapped, not read: a [`View`] is a tensor in one. [`Checkpoint`] identifies the tensors, whatever their names in the
//! file; [`Matrix::fill`] converts them to the form that a graph uses. Nothing here depends on ONNX Runtime.

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
pub(crate) use view::{Element, View, release};

#[cfg(test)]
pub(crate) use view::tests::view_of;
