//! The engine from outside, with the bundled model and the real ONNX Runtime.

mod loading;
mod scheduling;
mod support;
mod transcribe;
