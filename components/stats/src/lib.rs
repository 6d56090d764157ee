//! The component `stats`: it records calls, and answers `/stats` with a summary of them.
//!
//! Both sides meet in one measurement of the time-series store, [`MEASUREMENT`]. The component knows neither which
//! database is behind the store nor what the calls were about.

mod outcome;
mod summary;

#[cfg(target_family = "wasm")]
mod component;

pub use outcome::{Outcome, requested};
pub use summary::Summary;

/// The measurement that holds one point per call. Tags: `trigger`, `status`, `outcome` and, once known, `model` and `language`;
/// fields: [`LATENCY`] and [`AUDIO_LENGTH`].
pub const MEASUREMENT: &str = "calls";
/// Seconds from the request's arrival to its answer.
pub const LATENCY: &str = "latency";
/// Seconds of audio.
pub const AUDIO_LENGTH: &str = "audio_length";
/// Whether the call gave a transcription: see [`Outcome`]. Tags are filtered by equality, and `status` has many values.
pub const OUTCOME: &str = "outcome";
