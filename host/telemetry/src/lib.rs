//! Telemetry of the host: the [`log`](mod@log), and the [`Metrics`] that `metrics`' macros record.
//!
//! Other crates record through the facades only: events and spans with `tracing`, metrics with `metrics`. This crate decides where
//! they go. Spans have the target [`SPANS`] and the names and attributes of OpenTelemetry's semantic conventions; the log shows
//! them at `trace`.

pub mod log;
mod metrics;

pub use metrics::{Distribution, Metrics};

/// Target of all spans. A directive such as `otel::tracing=trace` enables them.
pub const SPANS: &str = "otel::tracing";
