//! Whisper on ONNX Runtime: log-mel frames in, segments of text out.
//!
//! For hosts that transcribe many recordings at once with one model. [`Engine::load`] reads a model folder in the layout of
//! Hugging Face. [`Engine::start`] starts a [`Transcription`], which takes frames as they are produced and returns segments as they
//! are ready. Windows of different transcriptions are decoded in batches on one thread.
//!
//! A recording of any length is cut into windows at pauses, and each window is decoded as in OpenAI's reference: greedily or with
//! a beam search, with fallback to higher temperatures if the text is repetitive or unlikely. Word timestamps are not implemented.
//!
//! The crate knows nothing about WebAssembly or HTTP, and does not read audio files.

mod admission;
mod config;
mod decode;
mod engine;
mod error;
mod features;
mod kernels;
mod language;
pub mod metrics;
mod model;
mod options;
mod scheduler;
mod segmentation;
mod session;
mod transcription;
mod weights;

pub use config::{Config, Device};
pub use engine::Engine;
pub use error::{Error, LoadError};
pub use model::{Model, Precision};
pub use options::{Options, Task, Timestamps};
pub use transcription::{Info, Segment, Transcription};
