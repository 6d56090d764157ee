//! Metrics of each component, over all its revisions. The label `component` is its id.

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use serde::{Deserialize, Serialize};

use super::stop::Stop;

const COMPONENT: &str = "component";

/// Counter: admitted invocations.
const INVOCATIONS: &str = "whisper_host_invocations_total";
/// Counter: failed invocations, by `reason`.
const FAILED: &str = "whisper_host_invocations_failed_total";
/// Counter: invocations refused because too many were running and waiting.
const REJECTED: &str = "whisper_host_invocations_rejected_total";
/// Gauge: running invocations.
const ACTIVE: &str = "whisper_host_invocations_active";
/// Gauge: instances, running and idle.
const INSTANCES: &str = "whisper_host_instances";
/// Gauge: waiting invocations.
const WAITING: &str = "whisper_host_invocations_waiting";
/// Histogram: running time of an invocation, in seconds.
const DURATION: &str = "whisper_host_invocation_duration_seconds";
/// Histogram: waiting time of an invocation, in seconds.
const QUEUE_DURATION: &str = "whisper_host_invocation_queue_duration_seconds";
/// Histogram: linear memory of an instance at its end, in bytes.
const MEMORY: &str = "whisper_host_instance_memory_bytes";

/// Label of [`FAILED`].
const REASON: &str = "reason";
/// The component trapped or did not respond.
const TRAP: &str = "trap";
/// It was stopped at its limit of wall-clock time.
const TIMEOUT: &str = "timeout";
/// It was stopped at its limit of CPU time.
const CPU_TIME: &str = "cpu_time";
/// It was stopped at its limit of memory.
const MEMORY_LIMIT: &str = "memory";
/// The request's body was too large, or stopped arriving.
const BODY: &str = "body";

/// Handles of a component's metrics.
pub(crate) struct Metrics {
    pub(crate) admitted: Counter,
    pub(crate) trapped: Counter,
    timed_out: Counter,
    out_of_cpu_time: Counter,
    out_of_memory: Counter,
    bad_body: Counter,
    pub(crate) rejected: Counter,
    pub(crate) instances: Gauge,
    pub(super) active: Gauge,
    pub(super) waiting: Gauge,
    pub(super) duration: Histogram,
    pub(crate) queue_duration: Histogram,
    pub(crate) memory: Histogram,
}

impl Metrics {
    pub(super) fn new(component: &str) -> Self {
        describe();
        let labels = [(COMPONENT, component.to_owned())];
        let failed = |reason: &'static str| counter!(FAILED, COMPONENT => component.to_owned(), REASON => reason);
        Self {
            admitted: counter!(INVOCATIONS, &labels),
            trapped: failed(TRAP),
            timed_out: failed(TIMEOUT),
            out_of_cpu_time: failed(CPU_TIME),
            out_of_memory: failed(MEMORY_LIMIT),
            bad_body: failed(BODY),
            rejected: counter!(REJECTED, &labels),
            instances: gauge!(INSTANCES, &labels),
            active: gauge!(ACTIVE, &labels),
            waiting: gauge!(WAITING, &labels),
            duration: histogram!(DURATION, &labels),
            queue_duration: histogram!(QUEUE_DURATION, &labels),
            memory: histogram!(MEMORY, &labels),
        }
    }

    /// Returns the counter of invocations that the host stopped for this reason.
    pub(crate) fn stopped(&self, stop: Stop) -> &Counter {
        match stop {
            Stop::Timeout => &self.timed_out,
            Stop::Cpu => &self.out_of_cpu_time,
            Stop::Memory => &self.out_of_memory,
            Stop::BodyTooLarge | Stop::BodyIdle => &self.bad_body,
            Stop::NoInstance => &self.rejected,
        }
    }

    /// Removes the metrics of a component that no longer exists.
    pub(super) fn remove(metrics: &telemetry::Metrics, component: &str) {
        metrics.remove(COMPONENT, component);
    }
}

fn describe() {
    describe_counter!(INVOCATIONS, "Invocations of components that were admitted.");
    describe_counter!(
        FAILED,
        "Invocations that failed: in a trap or without a response (trap), or at a limit (timeout, cpu_time, memory, body)."
    );
    describe_counter!(
        REJECTED,
        "Invocations that were refused because too many were running and waiting."
    );
    describe_gauge!(INSTANCES, "Instances of components, running and idle.");
    describe_gauge!(ACTIVE, "Running invocations.");
    describe_gauge!(WAITING, "Invocations that wait for a permit.");
    describe_histogram!(DURATION, "Running time of invocations, in seconds.");
    describe_histogram!(QUEUE_DURATION, "Waiting time of invocations, in seconds.");
    describe_histogram!(
        MEMORY,
        "Linear memory of component instances at their end, in bytes."
    );
}

/// The metrics of a component at one moment. All but the first two are totals since the host's start.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Running requests.
    pub running: u64,
    /// Waiting requests.
    pub waiting: u64,
    /// Admitted requests.
    pub requests: u64,
    /// Requests that ended in a trap or without a response.
    pub traps: u64,
    /// Requests stopped at a limit: time, CPU, memory, body.
    pub timeouts: u64,
    /// Requests refused because too many were running and waiting.
    pub refused: u64,
    /// Largest memory of an instance, in bytes.
    pub memory_high_water: u64,
    /// Total running time of requests, in seconds.
    pub instance_seconds: f64,
    /// Total waiting time of requests, in seconds.
    pub queue_seconds: f64,
}

impl Snapshot {
    pub(super) fn read(metrics: &telemetry::Metrics, component: &str) -> Self {
        let labels = [(COMPONENT, component)];
        let failed = |reason| metrics.counter(FAILED, &[(COMPONENT, component), (REASON, reason)]);
        Self {
            running: metrics.gauge(ACTIVE, &labels) as u64,
            waiting: metrics.gauge(WAITING, &labels) as u64,
            requests: metrics.counter(INVOCATIONS, &labels),
            traps: failed(TRAP),
            timeouts: [TIMEOUT, CPU_TIME, MEMORY_LIMIT, BODY]
                .into_iter()
                .map(failed)
                .sum(),
            refused: metrics.counter(REJECTED, &labels),
            memory_high_water: metrics.histogram(MEMORY, &labels).max as u64,
            instance_seconds: metrics.histogram(DURATION, &labels).sum,
            queue_seconds: metrics.histogram(QUEUE_DURATION, &labels).sum,
        }
    }
}
