//! Ids of a request.

use telemetry::trace::TraceId;
use uuid::Uuid;

/// Ids of a request, which its log lines have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestIds {
    /// In the response, too.
    pub(crate) request: Uuid,
    /// Of the trace that it belongs to, if any.
    pub(crate) trace: Option<TraceId>,
}

impl RequestIds {
    /// Returns the ids of a request that belongs to no trace.
    pub(crate) fn new() -> Self {
        Self {
            request: Uuid::now_v7(),
            trace: None,
        }
    }
}
