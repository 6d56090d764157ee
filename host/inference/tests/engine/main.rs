//! Tests of the engine's public API, with the test model and the real ONNX Runtime.

mod loading;
mod scheduling;
mod support;
mod transcribe;
