//! Lifecycle of one invocation: its deadline, its phase, whether the client is still connected, and why it was stopped.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Context;

use futures::task::AtomicWaker;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Span;

use super::admission::Permit;
use super::output::Output;
use super::progress::Progress;
use super::report::{Fault, Reporter};
use super::request_ids::RequestIds;
use super::stop::Stop;
use super::target::Target;
use crate::error::Failure;

/// The phase of an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The component has not responded yet.
    Running,
    /// The response has started.
    Responding,
    /// The response is complete. The component may still be working.
    Responded,
    /// The client disconnected before the response was complete.
    Abandoned,
    /// The instance trapped or was stopped before its response was complete.
    Failed,
    /// The instance trapped or was stopped after its response was complete.
    FailedLate,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::Running,
        Self::Responding,
        Self::Responded,
        Self::Abandoned,
        Self::Failed,
        Self::FailedLate,
    ];
}

/// One call of a component. Shared by the request's body, the instance that serves it, and the caller; its permits are released
/// when the last of them drops it.
pub(crate) struct Invocation {
    pub(crate) ids: RequestIds,
    pub(crate) deadline: Instant,
    phase: AtomicU8,
    /// Wakes the worker, which ends the instance, when the client disconnects.
    watcher: AtomicWaker,
    stop: OnceLock<Stop>,
    pub(crate) reporter: Arc<Reporter>,
    started: Instant,
    /// Parent of the spans of the component's calls. Never entered: an exported span would end at the last exit.
    pub(crate) span: Span,
    /// Output of its instance.
    pub(crate) output: Arc<Output>,
    progress: Arc<Progress>,
    _permits: [Permit; 2],
    _in_flight: TaskTrackerToken,
}

impl Invocation {
    /// Begins an admitted invocation.
    pub(crate) fn begin(target: &Arc<Target>, ids: RequestIds, permits: [Permit; 2]) -> Arc<Self> {
        let started = Instant::now();
        Arc::new(Self {
            ids,
            deadline: started + target.limits.timeout,
            phase: AtomicU8::new(Phase::Running as u8),
            watcher: AtomicWaker::new(),
            stop: OnceLock::new(),
            reporter: Arc::new(Reporter::new(Arc::clone(target), ids)),
            started,
            span: tracing::trace_span!(
                target: telemetry::SPANS,
                "invocation",
                faas.invoked_name = &*target.id,
                faas.invocation_id = %ids.request,
            ),
            output: Arc::new(Output::new(Arc::clone(target), Some(ids))),
            progress: Arc::default(),
            _permits: permits,
            _in_flight: target.track(),
        })
    }

    /// Returns how far it is, also when it has ended.
    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Ordering::SeqCst))]
    }

    /// Changes the phase with `next`, and returns the previous one.
    fn advance(&self, next: impl Fn(Phase) -> Phase) -> Phase {
        let before = self
            .phase
            .update(Ordering::SeqCst, Ordering::SeqCst, |phase| {
                next(Phase::ALL[usize::from(phase)]) as u8
            });
        Phase::ALL[usize::from(before)]
    }

    /// Called when the response starts. If the instance has failed in the meantime, the failure is counted here, as nobody else
    /// will see it.
    pub(crate) fn begin_response(&self) {
        let before = self.advance(|phase| match phase {
            Phase::Running => Phase::Responding,
            other => other,
        });
        if before == Phase::Failed {
            self.count_failure();
        }
    }

    /// Called when the response is complete: from now on, the instance goes on even if the client disconnects.
    pub(crate) fn complete_response(&self) {
        self.advance(|phase| match phase {
            Phase::Running | Phase::Responding => Phase::Responded,
            other => other,
        });
    }

    /// Called when the client has disconnected: work on its request ends.
    pub(crate) fn abandon(&self) {
        self.advance(|phase| match phase {
            Phase::Running | Phase::Responding => Phase::Abandoned,
            other => other,
        });
        self.watcher.wake();
    }

    /// Called when the instance has trapped or was stopped, before it is freed, so that the end of the response's body can be told
    /// from a regular one. A failure after the start of the response is counted here.
    pub(crate) fn fail(&self) {
        let before = self.advance(|phase| match phase {
            Phase::Running | Phase::Responding => Phase::Failed,
            Phase::Responded => Phase::FailedLate,
            other => other,
        });
        if matches!(before, Phase::Responding | Phase::Responded) {
            self.count_failure();
        }
    }

    /// Returns whether the instance has failed.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.phase(), Phase::Failed | Phase::FailedLate)
    }

    /// Returns whether the response was completed, even if the instance failed afterwards.
    pub(crate) fn has_responded(&self) -> bool {
        matches!(self.phase(), Phase::Responded | Phase::FailedLate)
    }

    /// Returns whether the client has disconnected. If not, the last caller is woken when it does.
    pub(crate) fn poll_abandoned(&self, context: &Context<'_>) -> bool {
        // Registered first, so that a disconnect in between is not missed.
        self.watcher.register(context.waker());
        self.phase() == Phase::Abandoned
    }

    /// Stops the invocation at a limit. The first limit counts: later ones follow from it. Refused memory does not stop it, since
    /// the component may cope; it only explains a trap.
    pub(crate) fn stop_at(&self, limit: Stop) {
        if limit == Stop::Memory {
            self.reporter.set_memory_refused();
        } else {
            let _ = self.stop.set(limit);
        }
    }

    /// Returns the limit at which it was stopped.
    pub(crate) fn stop(&self) -> Option<Stop> {
        self.stop.get().copied()
    }

    /// Counts and reports that the host stopped it at a limit before it responded, and returns the failure.
    pub(crate) fn stopped(&self, stop: Stop) -> Failure {
        let target = &self.reporter.target;
        target.telemetry.metrics.stopped(stop).increment(1);
        self.reporter.report_stop(false, stop);
        target.failure(stop)
    }

    /// Counts that the component failed before it responded, which was reported, and returns the failure.
    pub(crate) fn failed(&self) -> Failure {
        let target = &self.reporter.target;
        let metrics = &target.telemetry.metrics;
        if self.reporter.memory_refused() {
            metrics.stopped(Stop::Memory).increment(1);
            return target.failure(Stop::Memory);
        }
        metrics.trapped.increment(1);
        target.failed(self.ids.request)
    }

    fn count_failure(&self) {
        let metrics = &self.reporter.target.telemetry.metrics;
        let refused = self.reporter.memory_refused().then_some(Stop::Memory);
        match self.stop().or(refused) {
            Some(stop) => metrics.stopped(stop).increment(1),
            None => metrics.trapped.increment(1),
        }
    }

    /// Reports why the response is incomplete, unless the failure of the instance is reported anyway.
    pub(crate) fn report_incomplete_response(&self, error: &impl std::fmt::Display) {
        match self.stop() {
            _ if self.has_failed() => {}
            Some(stop) => self.reporter.report_stop(false, stop),
            None => self
                .reporter
                .report(Fault::IncompleteResponse, false, &error.to_string()),
        }
    }
}

/// The span of an invocation, while it lasts. Instances outlive their invocations, and must not keep their spans from ending.
#[derive(Clone, Default)]
pub(crate) struct ParentSpan(Weak<Invocation>);

impl ParentSpan {
    pub(crate) fn of(invocation: &Arc<Invocation>) -> Self {
        Self(Arc::downgrade(invocation))
    }

    /// Returns the span; a disabled one if the invocation has ended.
    pub(crate) fn get(&self) -> Span {
        let invocation = self.0.upgrade();
        invocation.map_or_else(Span::none, |invocation| invocation.span.clone())
    }

    /// Records how many seconds of audio are transcribed.
    pub(crate) fn record_progress(&self, seconds: f64) {
        if let Some(invocation) = self.0.upgrade() {
            invocation.progress.set(seconds);
        }
    }
}

impl Drop for Invocation {
    fn drop(&mut self) {
        let metrics = &self.reporter.target.telemetry.metrics;
        metrics.duration.record(self.started.elapsed());
    }
}
