//! Reports why an invocation failed, once: in the log, and in the component's own output.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::lines::Line;
use super::request_ids::RequestIds;
use super::stop::Stop;
use super::target::Target;
use crate::text::escape_controls;

/// How an invocation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The component trapped.
    Trap,
    /// It returned without responding.
    NoResponse,
    /// It returned an error code of its trigger's protocol.
    ErrorCode,
    /// Its response was incomplete.
    IncompleteResponse,
    /// The host stopped it at a limit.
    Stop,
}

/// Maximum length of a reported error in bytes.
const MAX_ERROR: usize = 8 << 10;

/// Returns the beginning of an error.
pub(crate) fn truncated(error: &str) -> &str {
    &error[..error.floor_char_boundary(MAX_ERROR)]
}

/// Reports the failure of one invocation. It may outlive the invocation, whose permits it does not hold: a trap may be noticed only
/// after the response has been sent.
pub(crate) struct Reporter {
    pub(super) target: Arc<Target>,
    ids: RequestIds,
    /// Whether the component was refused memory: not a failure by itself, since it may cope, but it explains a trap.
    memory_refused: AtomicBool,
    reported: AtomicBool,
    /// Notified by the report.
    waiting: Notify,
}

impl Reporter {
    pub(super) fn new(target: Arc<Target>, ids: RequestIds) -> Self {
        Self {
            target,
            ids,
            memory_refused: AtomicBool::new(false),
            reported: AtomicBool::new(false),
            waiting: Notify::new(),
        }
    }

    pub(super) fn set_memory_refused(&self) {
        self.memory_refused.store(true, Ordering::Relaxed);
    }

    pub(crate) fn memory_refused(&self) -> bool {
        self.memory_refused.load(Ordering::Relaxed)
    }

    /// Waits until the failure is reported, but at most for `timeout`.
    pub(crate) async fn wait(&self, timeout: Duration) {
        let _ = tokio::time::timeout(timeout, self.waiting.notified()).await;
    }

    /// Reports the failure, unless one was reported before. `after_its_answer`: whether the response was complete by then. The component
    /// may choose parts of `error`, such as the names of its functions: only its beginning is reported.
    pub(crate) fn report(&self, fault: Fault, after_its_answer: bool, error: &str) {
        let error = truncated(error);
        if self.reported.swap(true, Ordering::Relaxed) {
            return;
        }
        let (component, request_id) = (&*self.target.id, self.ids.request);
        let trace_id = self.ids.trace;
        let message = match fault {
            Fault::Trap => "the component trapped",
            Fault::NoResponse => "the component returned no response",
            Fault::ErrorCode => "the component returned an error",
            Fault::IncompleteResponse => "the response is incomplete",
            Fault::Stop => "the component was stopped",
        };
        match fault {
            Fault::Trap | Fault::NoResponse => {
                tracing::error!(component, %request_id, %trace_id, after_its_answer, error, "{message}");
            }
            Fault::ErrorCode | Fault::IncompleteResponse | Fault::Stop => {
                tracing::warn!(component, %request_id, %trace_id, after_its_answer, error, "{message}");
            }
        }
        for text in format!("{message}: {error}").lines() {
            let line = Line::now("host", Some(self.ids), escape_controls(text));
            self.target.telemetry.lines.print(line);
        }
        self.waiting.notify_one();
    }

    /// Reports a trap, or the refusal of memory that caused it.
    pub(crate) fn report_trap(&self, after_its_answer: bool, error: &str) {
        match self.memory_refused() {
            true => {
                let error = format!("{}; {error}", Stop::Memory);
                self.report(Fault::Stop, after_its_answer, &error);
            }
            false => self.report(Fault::Trap, after_its_answer, error),
        }
    }

    /// Reports that the invocation was stopped at a limit.
    pub(crate) fn report_stop(&self, after_its_answer: bool, stop: Stop) {
        self.report(Fault::Stop, after_its_answer, &stop.to_string());
    }
}
