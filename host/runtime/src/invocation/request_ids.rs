//! Ids of a request.

use telemetry::trace::TraceId;
use uuid::Uuid;

/// Ids of a request, which its log lines have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestIds {
    /// In the response, too.
    pub(crate) request: Uuid,
    /// Of the trace that it belongs to.
    pub(crate) trace: TraceId,
}

impl RequestIds {
    /// Returns the ids of a request, which is a trace of its own: the ids have the same digits.
    pub(crate) fn new() -> Self {
        let request = Uuid::now_v7();
        Self {
            request,
            trace: TraceId::from_bytes(request.into_bytes()),
        }
    }
}
