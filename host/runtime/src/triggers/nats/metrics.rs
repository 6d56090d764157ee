//! Metrics of messages, with the names and labels of OpenTelemetry's semantic conventions as Prometheus writes them.

use std::time::Duration;

use metrics::{describe_histogram, histogram};

/// Histogram: time from a message's arrival to the end of its handling, in seconds.
const DURATION: &str = "messaging_process_duration_seconds";

/// Describes the metrics.
pub(super) fn describe() {
    describe_histogram!(
        DURATION,
        "Time from the arrival of messages to the end of their handling, in seconds."
    );
}

/// Records a message. `error` is the code of its failure.
pub(super) fn record(subjects: &str, component: &str, error: Option<&'static str>, time: Duration) {
    histogram!(
        DURATION,
        "messaging_system" => "nats",
        "messaging_destination_name" => subjects.to_owned(),
        "component" => component.to_owned(),
        "error_type" => error.unwrap_or(""),
    )
    .record(time);
}
