//! Abandons an invocation when its client disconnects.

use std::sync::Arc;

use crate::invocation::Invocation;

/// Abandons the invocation on drop, unless the response is complete.
pub(super) struct ClientGuard(pub(super) Option<Arc<Invocation>>);

impl ClientGuard {
    /// Disarms the guard, when the instance has failed by itself: it ends and reports why.
    pub(super) fn disarm(&mut self) {
        self.0 = None;
    }

    /// Marks the response as complete.
    pub(super) fn complete(&mut self) {
        if let Some(invocation) = self.0.take() {
            invocation.complete_response();
        }
    }

    /// Returns the invocation, while its response is not complete.
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
