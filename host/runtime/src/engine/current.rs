//! What an instance is doing at the moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::invocation::{Invocation, Reporter, Stop};

/// What an instance is doing, shared with its worker.
pub(crate) type Current = Arc<Mutex<Activity>>;

/// What an instance is doing.
#[derive(Default)]
pub(crate) struct Activity {
    /// The request it serves; none while it starts, and while it is idle.
    pub(crate) invocation: Option<Arc<Invocation>>,
    /// For the request that it serves, or served last.
    pub(crate) reporter: Option<Arc<Reporter>>,
    /// The limit that it ran into, while it started.
    pub(crate) failed_to_start: Option<Stop>,
    /// It has handed its thread back at a tick, and would go on computing.
    pub(super) yielding: bool,
    /// The CPU time that its thread had used when the instance got it back after a tick. None until then, and where it has waited
    /// since: asking for the time at every start and after every wait would cost each request a call to the system.
    pub(crate) computing_since: Option<Duration>,
}

impl Activity {
    pub(super) fn stop_at(&mut self, stop: Stop) {
        match &self.invocation {
            Some(invocation) => invocation.stop_at(stop),
            None => self.failed_to_start = Some(stop),
        }
    }

    /// The instance does not run at the moment.
    pub(crate) fn suspended(&mut self) {
        if !std::mem::take(&mut self.yielding) {
            self.computing_since = None;
        }
    }
}

pub(crate) fn lock(current: &Current) -> MutexGuard<'_, Activity> {
    // The lock is held for a clone or a store only: nothing in there panics, so a poisoned value is still whole.
    current.lock().unwrap_or_else(PoisonError::into_inner)
}
