//! Metrics of the delivery.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

/// Gauge: points in the spool.
const SPOOL_POINTS: &str = "whisper_host_spool_points";
/// Gauge: size of the spool in bytes.
const SPOOL_SIZE: &str = "whisper_host_spool_size_bytes";
/// Gauge: age of the oldest point in the spool.
const SPOOL_AGE: &str = "whisper_host_spool_age_seconds";
/// Counter: points that InfluxDB has acknowledged.
const DELIVERED: &str = "whisper_host_points_delivered_total";
/// Counter: points that InfluxDB refuses, which are in the table `dead_letter`.
const REFUSED: &str = "whisper_host_points_refused_total";
/// Counter: points dropped at the limits of the spool.
const DROPPED: &str = "whisper_host_points_dropped_total";
/// Counter: deliveries that are tried again.
const FAILURES: &str = "whisper_host_delivery_failures_total";

/// Handles of the metrics.
#[derive(Clone)]
pub(super) struct Metrics {
    spool_points: Gauge,
    pub spool_size: Gauge,
    pub spool_age: Gauge,
    delivered: Counter,
    refused: Counter,
    dropped: Counter,
    pub failures: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        describe_gauge!(
            SPOOL_POINTS,
            "Points that wait to be delivered to InfluxDB."
        );
        describe_gauge!(
            SPOOL_SIZE,
            "Size of the spool of points for InfluxDB, in bytes."
        );
        describe_gauge!(
            SPOOL_AGE,
            "Age of the oldest point that waits to be delivered to InfluxDB, in seconds."
        );
        describe_counter!(DELIVERED, "Points that InfluxDB has acknowledged.");
        describe_counter!(
            REFUSED,
            "Points that InfluxDB refuses; they are kept in the spool's table of dead letters."
        );
        describe_counter!(
            DROPPED,
            "Points that were dropped at the limits of the spool."
        );
        describe_counter!(
            FAILURES,
            "Deliveries to InfluxDB that failed and are tried again."
        );
        Self {
            spool_points: gauge!(SPOOL_POINTS),
            spool_size: gauge!(SPOOL_SIZE),
            spool_age: gauge!(SPOOL_AGE),
            delivered: counter!(DELIVERED),
            refused: counter!(REFUSED),
            dropped: counter!(DROPPED),
            failures: counter!(FAILURES),
        }
    }
}

impl Metrics {
    /// Points were written to the spool.
    pub fn written(&self, points: u64) {
        self.spool_points.increment(points as f64);
    }

    /// Points were delivered.
    pub fn delivered(&self, points: u64) {
        self.spool_points.decrement(points as f64);
        self.delivered.increment(points);
    }

    /// Points were refused.
    pub fn refused(&self, points: u64) {
        self.spool_points.decrement(points as f64);
        self.refused.increment(points);
    }

    /// Points were dropped.
    pub fn dropped(&self, points: u64) {
        self.spool_points.decrement(points as f64);
        self.dropped.increment(points);
    }
}
