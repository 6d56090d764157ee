//! The engine from outside, with the model for tests and the real ONNX Runtime.

mod loading;
mod scheduling;
mod support;
mod transcribe;
