//! The component `stats`: records calls, and serves a summary of them at `/stats`.
//!
//! Both use one measurement of the time-series store, [`MEASUREMENT`]. The component does not depend on the database behind
//! the store, nor on what the calls do.

mod selection;
mod summary;

#[cfg(target_family = "wasm")]
mod component;

pub use selection::{Outcome, Selection, requested};
pub use summary::Summary;

/// The measurement that holds one point per call. Tags: `trigger`, `status`, `outcome` and, once known, `model` and `language`;
/// fields: [`LATENCY`] and [`AUDIO_LENGTH`].
pub const MEASUREMENT: &str = "calls";
/// Seconds from the request's arrival to its response.
pub const LATENCY: &str = "latency";
/// Seconds of audio.
pub const AUDIO_LENGTH: &str = "audio_length";
/// Whether the call produced a transcription: see [`Outcome`]. Tags are filtered by equality, and `status` has many values.
pub const OUTCOME: &str = "outcome";
/// The tag with the model's id.
pub const MODEL: &str = "model";
/// The tag with the language.
pub const LANGUAGE: &str = "language";
