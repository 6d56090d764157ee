//! Admission control: limits the number of transcriptions in progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use metrics::Gauge;

/// Counts the transcriptions in progress.
pub(crate) struct Admission {
    limit: usize,
    in_progress: AtomicUsize,
    active: Gauge,
}

/// A permit for one transcription.
pub(crate) struct Permit(Arc<Admission>);

impl Admission {
    /// `active` is the gauge of transcriptions in progress.
    pub fn new(limit: usize, active: Gauge) -> Self {
        Self {
            limit,
            in_progress: AtomicUsize::new(0),
            active,
        }
    }

    /// Returns a permit, or `None` if the limit is reached.
    pub fn acquire(self: &Arc<Self>) -> Option<Permit> {
        let admitted = self.in_progress.try_update(Relaxed, Relaxed, |count| {
            (count < self.limit).then_some(count + 1)
        });
        admitted.ok()?;
        self.active.increment(1.0);
        Some(Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Relaxed);
        self.0.active.decrement(1.0);
    }
}
