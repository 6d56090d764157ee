//! Whether the client still waits for its answer.

use std::sync::Arc;

use crate::invocation::Invocation;

/// Tells the instance that its client has gone, unless the answer was complete by then.
pub(super) struct ClientGuard(pub(super) Option<Arc<Invocation>>);

impl ClientGuard {
    /// The instance has failed by itself: let it end, and report why.
    pub(super) fn keep_instance(&mut self) {
        self.0 = None;
    }

    /// The answer is complete.
    pub(super) fn complete(&mut self) {
        if let Some(invocation) = self.0.take() {
            invocation.complete_answer();
        }
    }

    /// The request, while its answer is not complete.
    pub(super) fn invocation(&self) -> Option<&Invocation> {
        self.0.as_deref()
    }
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        if let Some(invocation) = &self.0 {
            invocation.abandon();
        }
    }
}
