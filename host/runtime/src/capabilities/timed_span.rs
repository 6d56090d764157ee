//! The resource `span` of `speech:pipeline/tracing`.

use std::time::{Duration, Instant};

use tracing::Span;

/// A span, and the time that the component has spent in it. It is never entered: the component may wait in it, while the thread
/// works for others.
pub struct TimedSpan {
    span: Span,
    busy: Duration,
    entered: Option<Instant>,
}

impl TimedSpan {
    pub(super) fn new(span: Span) -> Self {
        Self {
            span,
            busy: Duration::ZERO,
            entered: None,
        }
    }

    pub(super) fn is_disabled(&self) -> bool {
        self.span.is_disabled()
    }

    pub(super) fn enter(&mut self) {
        if !self.is_disabled() {
            self.entered.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn exit(&mut self) {
        self.busy += self
            .entered
            .take()
            .map_or(Duration::ZERO, |since| since.elapsed());
    }
}

impl Drop for TimedSpan {
    fn drop(&mut self) {
        self.exit();
        let nanoseconds = i64::try_from(self.busy.as_nanos()).unwrap_or(i64::MAX);
        self.span.record("busy_ns", nanoseconds);
    }
}
