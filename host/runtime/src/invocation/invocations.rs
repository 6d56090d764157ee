//! The invocations of all components together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::admission::{Admission, Gauges};
use super::telemetry::Registry;

/// What the invocations of a host share.
pub(crate) struct Invocations {
    /// Those that run need an instance each, of which there are so many: clients share them, too.
    pub(super) admission: Arc<Admission>,
    pub(super) telemetry: Registry,
    /// Each invocation, until its instance is done with it: that may be after its answer.
    under_way: TaskTracker,
    /// Nobody waits any longer for the invocations under way.
    stopped: AtomicBool,
}

impl Invocations {
    /// At most `instances` at once. Their metrics are read from `metrics`.
    pub(crate) fn new(instances: u32, metrics: telemetry::Metrics) -> Self {
        Self {
            // Those that wait have a place in the queue of their component.
            admission: Arc::new(Admission::new(
                instances as usize,
                None,
                usize::MAX,
                Gauges::default(),
            )),
            telemetry: Registry::new(metrics),
            under_way: TaskTracker::new(),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn token(&self) -> TaskTrackerToken {
        self.under_way.token()
    }

    /// Waits until none is under way, also of revisions that are served no longer, or for this long. Returns whether
    /// all are done; those that are not end with the scheduler.
    pub(crate) async fn finish(&self, within: Duration) -> bool {
        self.under_way.close();
        let finished = tokio::time::timeout(within, self.under_way.wait())
            .await
            .is_ok();
        self.stopped.store(true, Ordering::Relaxed);
        finished
    }

    /// Whether the host waits for none any more: an instance that ends now, idle or not, ends with the scheduler.
    pub(super) fn have_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
