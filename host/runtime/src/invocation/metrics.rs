//! Metrics of each component, over all of its revisions.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Counters of one component.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: AtomicU64,
    traps: AtomicU64,
    timeouts: AtomicU64,
    refused: AtomicU64,
    memory: AtomicU64,
    instance_nanos: AtomicU64,
    queue_nanos: AtomicU64,
}

/// The metrics of a component at one moment. All but the first two are totals since the host's start.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Requests that run.
    pub running: usize,
    /// Requests that wait for their turn.
    pub waiting: usize,
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

impl Metrics {
    pub(crate) fn admitted(&self, queued: Duration) {
        self.requests.fetch_add(1, Relaxed);
        self.queue_nanos.fetch_add(nanos(queued), Relaxed);
    }

    pub(crate) fn trapped(&self) {
        self.traps.fetch_add(1, Relaxed);
    }

    pub(crate) fn stopped(&self) {
        self.timeouts.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn memory(&self, bytes: usize) {
        self.memory.fetch_max(bytes as u64, Relaxed);
    }

    pub(crate) fn ran(&self, time: Duration) {
        self.instance_nanos.fetch_add(nanos(time), Relaxed);
    }

    pub(crate) fn snapshot(&self, running: usize, waiting: usize) -> Snapshot {
        let seconds = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Relaxed)).as_secs_f64();
        Snapshot {
            running,
            waiting,
            requests: self.requests.load(Relaxed),
            traps: self.traps.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            refused: self.refused.load(Relaxed),
            memory_high_water: self.memory.load(Relaxed),
            instance_seconds: seconds(&self.instance_nanos),
            queue_seconds: seconds(&self.queue_nanos),
        }
    }
}

/// 584 years fit.
fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
