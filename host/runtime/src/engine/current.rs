//! What an instance is currently doing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::invocation::{Invocation, Reporter, Stop};

/// An instance's activity, shared with its worker.
pub(crate) type Current = Arc<Mutex<Activity>>;

/// What an instance is currently doing.
#[derive(Default)]
pub(crate) struct Activity {
    /// The current request; `None` while the instance starts or is idle.
    pub(crate) invocation: Option<Arc<Invocation>>,
    /// Reporter of the current or the last request.
    pub(crate) reporter: Option<Arc<Reporter>>,
    /// The limit that was reached during start.
    pub(crate) failed_to_start: Option<Stop>,
    /// Whether it has yielded its thread at a tick, and will continue computing.
    pub(super) yielding: bool,
    /// CPU time of the thread when the instance resumed after a tick. `None` before that, and after a wait: reading the clock at
    /// every start and after every wait would cost each request a system call.
    pub(super) computing_since: Option<Duration>,
}

impl Activity {
    pub(super) fn stop_at(&mut self, stop: Stop) {
        match &self.invocation {
            Some(invocation) => invocation.stop_at(stop),
            None => self.failed_to_start = Some(stop),
        }
    }

    /// Records that an invocation starts.
    pub(crate) fn begin(&mut self, invocation: &Arc<Invocation>) {
        self.reporter = Some(Arc::clone(&invocation.reporter));
        self.invocation = Some(Arc::clone(invocation));
        // The instance may have been idle, or started, since the last tick.
        self.computing_since = None;
    }

    /// Records that the instance is suspended.
    pub(crate) fn suspended(&mut self) {
        if !std::mem::take(&mut self.yielding) {
            self.computing_since = None;
        }
    }
}

pub(crate) fn lock(current: &Current) -> MutexGuard<'_, Activity> {
    // The lock is held for a clone or a store only; neither panics, so a poisoned value is still consistent.
    current.lock().unwrap_or_else(PoisonError::into_inner)
}
