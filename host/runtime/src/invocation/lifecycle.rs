//! Lifecycle of one invocation: when it must be over, whether its client is still there, how far it is, and why it was stopped.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Context;

use futures::task::AtomicWaker;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Span;

use super::admission::Permit;
use super::output::Output;
use super::report::{Fault, Reporter};
use super::stop::Stop;
use super::target::Target;

/// How far an invocation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The component works on its answer.
    Running,
    /// The answer has begun.
    Answering,
    /// The answer is complete. The component may have something left to do.
    Answered,
    /// The client left before the answer was complete.
    Abandoned,
    /// The instance trapped or was stopped, before its answer had begun or while it was under way.
    Failed,
    /// The same, after its answer was complete.
    FailedLate,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::Running,
        Self::Answering,
        Self::Answered,
        Self::Abandoned,
        Self::Failed,
        Self::FailedLate,
    ];
}

/// One call of a component. Shared by its body, the instance that serves it, and whoever waits for the answer. The last of them to
/// go gives its permits back.
pub(crate) struct Invocation {
    /// For logs and answers.
    pub(crate) request_id: uuid::Uuid,
    pub(crate) deadline: Instant,
    phase: AtomicU8,
    /// Wakes whoever ends the instance when the client leaves.
    watcher: AtomicWaker,
    stop: OnceLock<Stop>,
    pub(crate) reporter: Arc<Reporter>,
    started: Instant,
    /// Parent of the spans of what the component calls.
    pub(crate) span: Span,
    /// What its instance prints.
    pub(crate) output: Output,
    _permits: [Permit; 2],
    _under_way: TaskTrackerToken,
}

impl Invocation {
    /// Begins an invocation that was admitted.
    pub(crate) fn begin(
        target: &Arc<Target>,
        request_id: uuid::Uuid,
        permits: [Permit; 2],
    ) -> Arc<Self> {
        let started = Instant::now();
        Arc::new(Self {
            request_id,
            deadline: started + target.limits.timeout,
            phase: AtomicU8::new(Phase::Running as u8),
            watcher: AtomicWaker::new(),
            stop: OnceLock::new(),
            reporter: Arc::new(Reporter::new(Arc::clone(target), request_id)),
            started,
            span: tracing::trace_span!(
                target: telemetry::SPANS,
                "invocation",
                faas.invoked_name = &*target.id,
                faas.invocation_id = %request_id,
            ),
            output: Output::new(Arc::clone(target), Some(request_id)),
            _permits: permits,
            _under_way: target.under_way(),
        })
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Ordering::SeqCst))]
    }

    /// Goes on to the phase that `next` gives, and returns the one before.
    fn advance(&self, next: impl Fn(Phase) -> Phase) -> Phase {
        let before = self
            .phase
            .update(Ordering::SeqCst, Ordering::SeqCst, |phase| {
                next(Phase::ALL[usize::from(phase)]) as u8
            });
        Phase::ALL[usize::from(before)]
    }

    /// The answer has begun. If the instance has failed meanwhile, that is counted here, since nobody else sees it any more.
    pub(crate) fn begin_answer(&self) {
        let before = self.advance(|phase| match phase {
            Phase::Running => Phase::Answering,
            other => other,
        });
        if before == Phase::Failed {
            self.count_failure();
        }
    }

    /// The answer is complete: what the instance still does is no longer cut short by the client's leaving.
    pub(crate) fn complete_answer(&self) {
        self.advance(|phase| match phase {
            Phase::Running | Phase::Answering => Phase::Answered,
            other => other,
        });
    }

    /// The client has gone: the work on its request ends.
    pub(crate) fn abandon(&self) {
        self.advance(|phase| match phase {
            Phase::Running | Phase::Answering => Phase::Abandoned,
            other => other,
        });
        self.watcher.wake();
    }

    /// The instance has trapped or was stopped. Called before the instance is freed, so that whoever sees its answer end can tell
    /// that it did not end by itself. A failure after the beginning of the answer is counted here.
    pub(crate) fn fail(&self) {
        let before = self.advance(|phase| match phase {
            Phase::Running | Phase::Answering => Phase::Failed,
            Phase::Answered => Phase::FailedLate,
            other => other,
        });
        if matches!(before, Phase::Answering | Phase::Answered) {
            self.count_failure();
        }
    }

    /// Whether the instance has failed.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.phase(), Phase::Failed | Phase::FailedLate)
    }

    /// Whether the answer was complete, whatever came then.
    pub(crate) fn was_answered(&self) -> bool {
        matches!(self.phase(), Phase::Answered | Phase::FailedLate)
    }

    /// Whether the client has gone. If not yet, the one who asked last is woken when it does.
    pub(crate) fn poll_abandoned(&self, context: &Context<'_>) -> bool {
        // Registered first, so that a client that leaves in between is not missed.
        self.watcher.register(context.waker());
        self.phase() == Phase::Abandoned
    }

    /// Stops the invocation at a limit. The first one counts: the others follow from it. A refusal of memory does not stop it, since
    /// the component may cope with it; it explains a trap.
    pub(crate) fn stop_at(&self, limit: Stop) {
        if limit == Stop::Memory {
            self.reporter.set_memory_refused();
        } else {
            let _ = self.stop.set(limit);
        }
    }

    /// The limit at which it was stopped.
    pub(crate) fn stop(&self) -> Option<Stop> {
        self.stop.get().copied()
    }

    fn count_failure(&self) {
        let metrics = &self.reporter.target.telemetry.metrics;
        match self.stop().is_some() || self.reporter.memory_refused() {
            true => metrics.stopped.increment(1),
            false => metrics.trapped.increment(1),
        }
    }

    /// Reports why the answer broke off, unless whoever frees the instance is about to.
    pub(crate) fn report_broken_answer(&self, error: &impl std::fmt::Display) {
        match self.stop() {
            _ if self.has_failed() => {}
            Some(stop) => self.reporter.report_stop(false, stop),
            None => self
                .reporter
                .report(Fault::BrokenAnswer, false, &error.to_string()),
        }
    }
}

impl Drop for Invocation {
    fn drop(&mut self) {
        let metrics = &self.reporter.target.telemetry.metrics;
        metrics.duration.record(self.started.elapsed());
    }
}
