//! How many transcriptions are in progress: no more than a number.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts the transcriptions in progress.
pub(crate) struct Admission {
    limit: usize,
    in_progress: AtomicUsize,
}

/// The right to be one of the transcriptions in progress.
pub(crate) struct Permit(Arc<Admission>);

impl Admission {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            in_progress: AtomicUsize::new(0),
        }
    }

    /// None where as many as the limit are in progress.
    pub fn acquire(self: &Arc<Self>) -> Option<Permit> {
        self.in_progress
            .try_update(Relaxed, Relaxed, |count| {
                (count < self.limit).then_some(count + 1)
            })
            .ok()
            .map(|_| Permit(Arc::clone(self)))
    }

    pub fn in_progress(&self) -> usize {
        self.in_progress.load(Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Relaxed);
    }
}
