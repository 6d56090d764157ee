//! Metrics of the jobs that have not ended, for autoscaling.

use metrics::{Gauge, describe_gauge, gauge};
use queue::jobs::Depth;

/// Gauge: jobs of a component that no worker has.
const WAITING: &str = "whisper_host_jobs_waiting";
/// Gauge: jobs of a component that a worker has, of this host or of another one.
const TAKEN: &str = "whisper_host_jobs_taken";
/// Gauge: age of the oldest job of all components.
const OLDEST: &str = "whisper_host_jobs_oldest_age_seconds";

/// Gauges of the jobs of a component.
pub(super) struct Gauges {
    waiting: Gauge,
    taken: Gauge,
    oldest: Gauge,
}

impl Gauges {
    pub(super) fn new(component: &str) -> Self {
        describe_gauge!(WAITING, "Jobs of a component that no worker has.");
        describe_gauge!(
            TAKEN,
            "Jobs of a component that a worker has, or that wait for their next attempt."
        );
        describe_gauge!(
            OLDEST,
            "Age of the oldest job of all components that has not ended, in seconds."
        );
        Self {
            waiting: gauge!(WAITING, "component" => component.to_owned()),
            taken: gauge!(TAKEN, "component" => component.to_owned()),
            oldest: gauge!(OLDEST),
        }
    }

    pub(super) fn set(&self, depth: &Depth) {
        self.waiting.set(depth.waiting as f64);
        self.taken.set(depth.taken as f64);
        self.oldest.set(depth.oldest.as_secs_f64());
    }
}
