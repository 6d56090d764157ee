//! Metrics of each component, over all of its revisions. The label `component` is its id.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use serde::{Deserialize, Serialize};

const COMPONENT: &str = "component";

/// Counter: invocations that were admitted.
const INVOCATIONS: &str = "whisper_host_invocations_total";
/// Counter: invocations that failed, by `reason`.
const FAILED: &str = "whisper_host_invocations_failed_total";
/// Counter: invocations that were refused because too many ran and waited.
const REJECTED: &str = "whisper_host_invocations_rejected_total";
/// Gauge: invocations that run.
const ACTIVE: &str = "whisper_host_invocations_active";
/// Gauge: invocations that wait for their turn.
const WAITING: &str = "whisper_host_invocations_waiting";
/// Histogram: seconds that an invocation ran.
const DURATION: &str = "whisper_host_invocation_duration_seconds";
/// Histogram: seconds that an invocation waited for its turn.
const QUEUE_DURATION: &str = "whisper_host_invocation_queue_duration_seconds";
/// Histogram: bytes of linear memory that an instance had at its end.
const MEMORY: &str = "whisper_host_instance_memory_bytes";

/// Label of [`FAILED`].
const REASON: &str = "reason";
/// The component trapped, or gave no answer.
const TRAP: &str = "trap";
/// It was stopped at a limit: time, CPU, memory, body.
const LIMIT: &str = "limit";

/// Handles of a component's metrics.
pub(crate) struct Metrics {
    pub(crate) admitted: Counter,
    pub(crate) trapped: Counter,
    pub(crate) stopped: Counter,
    pub(crate) rejected: Counter,
    pub(super) active: Gauge,
    pub(super) waiting: Gauge,
    pub(super) duration: Histogram,
    pub(crate) queue_duration: Histogram,
    pub(crate) memory: Histogram,
}

impl Metrics {
    pub(super) fn new(component: &str) -> Self {
        let labels = [(COMPONENT, component.to_owned())];
        let failed = |reason: &'static str| counter!(FAILED, COMPONENT => component.to_owned(), REASON => reason);
        Self {
            admitted: counter!(INVOCATIONS, &labels),
            trapped: failed(TRAP),
            stopped: failed(LIMIT),
            rejected: counter!(REJECTED, &labels),
            active: gauge!(ACTIVE, &labels),
            waiting: gauge!(WAITING, &labels),
            duration: histogram!(DURATION, &labels),
            queue_duration: histogram!(QUEUE_DURATION, &labels),
            memory: histogram!(MEMORY, &labels),
        }
    }

    /// Forgets those of a component that is gone.
    pub(super) fn remove(metrics: &telemetry::Metrics, component: &str) {
        metrics.remove(COMPONENT, component);
    }
}

/// The metrics of a component at one moment. All but the first two are totals since the host's start.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Requests that run.
    pub running: u64,
    /// Requests that wait for their turn.
    pub waiting: u64,
    /// Requests that were let in.
    pub requests: u64,
    /// Requests that ended in a trap, or without an answer.
    pub traps: u64,
    /// Requests that were stopped at a limit: time, CPU, memory, body.
    pub timeouts: u64,
    /// Requests that were turned away because too many ran and waited.
    pub refused: u64,
    /// The most memory that one instance had, in bytes.
    pub memory_high_water: u64,
    /// Time that requests ran, in seconds.
    pub instance_seconds: f64,
    /// Time that requests waited for their turn, in seconds.
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
            timeouts: failed(LIMIT),
            refused: metrics.counter(REJECTED, &labels),
            memory_high_water: metrics.histogram(MEMORY, &labels).max as u64,
            instance_seconds: metrics.histogram(DURATION, &labels).sum,
            queue_seconds: metrics.histogram(QUEUE_DURATION, &labels).sum,
        }
    }
}
