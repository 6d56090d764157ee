//! Telemetry of the host: the [`log`](mod@log), the [`Metrics`] that `metrics`' macros record, and [traces](trace).
//!
//! Other crates record through the facades only: events and spans with `tracing`, metrics with `metrics`. This crate decides where
//! they go. Spans have the target [`SPANS`] and the names and attributes of OpenTelemetry's semantic conventions; they are exported
//! with OTLP, and the log shows them at `trace`.

mod buckets;
mod exposition;
pub mod log;
mod metrics;
pub mod trace;

pub use exposition::CONTENT_TYPE;
pub use metrics::{Distribution, Metrics};

/// Records the metrics of this process: memory, processor time, threads and file descriptors.
pub fn record_process() {
    metrics_process::Collector::default().collect();
}

/// Target of all spans. A directive such as `otel::tracing=trace` enables them.
pub const SPANS: &str = "otel::tracing";
