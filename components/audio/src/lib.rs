//! The component `audio`: converts the bytes of an audio file to log-mel frames.
//!
//! ```text
//! Bytes (chunks as received) -> Decoder (container, codec) -> mono PCM -> Resampler (rubato, 16 kHz) -> LogMel (realfft)
//! ```
//!
//! [`Frames`] combines these steps and is all that the WIT interface `features` exposes. Each step processes one block
//! at a time, so apart from the file itself memory use does not grow with the length of the recording.
//!
//! The crate is independent of HTTP and models: the caller chooses the number of mel bins.

mod blocks;
mod bytes;
mod codec;
mod container;
mod decode;
mod error;
mod format;
mod frames;
mod log_mel;
mod mel_filters;
mod mix;
mod parts;
mod payload;
mod probe;
mod resample;

#[cfg(target_family = "wasm")]
mod component;

pub use bytes::Bytes;
pub use decode::Decoder;
pub use error::Error;
pub use format::{Format, Hint};
pub use frames::Frames;
pub use log_mel::{LogMel, MAX_BLOCK_FRAMES};
pub use resample::{Resampler, SAMPLE_RATE};
