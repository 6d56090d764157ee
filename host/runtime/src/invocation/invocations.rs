//! The invocations of all components.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::admission::{Admission, Gauges};
use super::telemetry::Registry;

/// State shared by all invocations of a host.
pub(crate) struct Invocations {
    /// Each running invocation needs an instance; clients share these fairly, too.
    pub(super) admission: Arc<Admission>,
    pub(super) telemetry: Registry,
    /// Tracks each invocation until its instance is done with it, which may be after its response.
    in_flight: TaskTracker,
    /// Cancelled when the host has stopped waiting for invocations in flight.
    stopped: CancellationToken,
}

impl Invocations {
    /// Allows `instances` at once. Their metrics are read from `metrics`.
    pub(crate) fn new(instances: u32, metrics: telemetry::Metrics) -> Self {
        Self {
            // Waiting invocations are counted in the queue of their component, too.
            admission: Arc::new(Admission::new(
                instances as usize,
                None,
                usize::MAX,
                Gauges::default(),
            )),
            telemetry: Registry::new(metrics),
            in_flight: TaskTracker::new(),
            stopped: CancellationToken::new(),
        }
    }

    /// Returns the recorder of this process.
    pub(crate) fn metrics(&self) -> &telemetry::Metrics {
        self.telemetry.metrics()
    }

    pub(super) fn token(&self) -> TaskTrackerToken {
        self.in_flight.token()
    }

    /// Waits until none is in flight, including those of revisions that are no longer served, but at most for `timeout`. Returns
    /// whether all are done; the others end with the runtime.
    pub(crate) async fn finish(&self, timeout: Duration) -> bool {
        self.in_flight.close();
        let finished = tokio::time::timeout(timeout, self.in_flight.wait())
            .await
            .is_ok();
        self.stopped.cancel();
        finished
    }

    /// Returns whether the host has stopped waiting: an instance that ends now, idle or not, ends with the runtime.
    pub(super) fn have_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    /// Waits until the host has stopped waiting.
    pub(super) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }
}
