//! One request's reins: when it must be over, whether its client is still there, and why it was stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Context;
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::admission::Permit;
use super::component::Settings;
use super::figures::Line;
use super::output::{Printed, visible};

/// Why a request was stopped before its component had answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its wall-clock time was over.
    Timeout,
    /// The host had no place for another instance, for as long as it may wait.
    NoPlace,
    /// It had computed for too long.
    Cpu,
    /// Its component asked for more memory than it may have.
    Memory,
    /// Its body was larger than allowed.
    BodyTooLarge,
    /// Its body stopped coming.
    BodyIdle,
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stop::Timeout => "its time was over",
            Stop::NoPlace => "the host has no place for another instance",
            Stop::Cpu => "its CPU time was over",
            Stop::Memory => "it needs more memory than its limit",
            Stop::BodyTooLarge => "the body is too large",
            Stop::BodyIdle => "the body stopped coming",
        })
    }
}

/// What is said of a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reported {
    /// The component trapped.
    Trap,
    /// It returned, and had not answered.
    NoAnswer,
    /// It answered with one of the error codes of `wasi:http`.
    ErrorCode,
    /// It left its answer incomplete.
    BrokenAnswer,
    /// The host stopped it at a limit.
    Stop,
}

/// Says why a request failed, once. It may outlive the request, whose permits it does not hold: an instance may be found to have
/// trapped only after its answer has gone.
pub(super) struct Reporter {
    settings: Arc<Settings>,
    request_id: uuid::Uuid,
    memory_refused: AtomicBool,
    answered: AtomicBool,
    reported: AtomicBool,
    /// Whoever waits for the report.
    waiting: Notify,
}

impl Reporter {
    /// Waits until the failure is reported, for so long.
    pub(super) async fn wait(&self, within: Duration) {
        let _ = tokio::time::timeout(within, self.waiting.notified()).await;
    }

    /// Says once why the request failed: in the log, and among the component's own lines.
    pub(super) fn report(&self, failure: Reported, error: &str) {
        if self.reported.swap(true, Ordering::Relaxed) {
            return;
        }
        let (component, request_id) = (&*self.settings.id, self.request_id);
        let after_its_answer = self.answered.load(Ordering::Relaxed);
        let message = match failure {
            Reported::Trap => "the component trapped",
            Reported::NoAnswer => "the component gave no answer",
            Reported::ErrorCode => "the component answered with an error",
            Reported::BrokenAnswer => "the answer broke off",
            Reported::Stop => "the component was stopped",
        };
        match failure {
            Reported::Trap | Reported::NoAnswer => {
                tracing::error!(component, %request_id, after_its_answer, error, "{message}");
            }
            Reported::ErrorCode | Reported::BrokenAnswer | Reported::Stop => {
                tracing::warn!(component, %request_id, after_its_answer, error, "{message}");
            }
        }
        for text in format!("{message}: {error}").lines() {
            let line = Line::now("host", Some(request_id), visible(text));
            self.settings.observed.print(line);
        }
        self.waiting.notify_one();
    }

    /// Says once that the component trapped, or that it was refused memory, which is why.
    pub(super) fn report_trap(&self, error: &wasmtime::Error) {
        let (failure, error) = match self.memory_refused.load(Ordering::Relaxed) {
            true => (Reported::Stop, format!("{}; {error:#}", Stop::Memory)),
            false => (Reported::Trap, format!("{error:#}")),
        };
        self.report(failure, &error);
    }

    /// Says once that the request was stopped, and at which limit.
    pub(super) fn report_stop(&self, stop: Stop) {
        self.report(Reported::Stop, &stop.to_string());
    }
}

/// Shared by the request's body, the instance that serves it, and whoever waits for the answer. The last of them to go
/// gives the request's permits back.
pub(crate) struct Control {
    /// For logs and answers.
    pub(crate) request_id: uuid::Uuid,
    pub(super) deadline: Instant,
    /// The client has gone.
    gone: AtomicBool,
    /// Whoever is to end the instance then.
    watcher: AtomicWaker,
    stop: OnceLock<Stop>,
    responded: AtomicBool,
    failed: AtomicBool,
    counted: AtomicBool,
    pub(super) reporter: Arc<Reporter>,
    started: Instant,
    /// What its instance prints.
    pub(super) printed: Printed,
    _permits: [Permit; 2],
    _under_way: TaskTrackerToken,
}

impl Control {
    pub(crate) fn new(
        request_id: uuid::Uuid,
        settings: Arc<Settings>,
        permits: [Permit; 2],
        under_way: TaskTrackerToken,
    ) -> Self {
        let started = Instant::now();
        Self {
            request_id,
            deadline: started + settings.limits.timeout,
            gone: AtomicBool::new(false),
            watcher: AtomicWaker::new(),
            stop: OnceLock::new(),
            responded: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            counted: AtomicBool::new(false),
            reporter: Arc::new(Reporter {
                settings: Arc::clone(&settings),
                request_id,
                memory_refused: AtomicBool::new(false),
                answered: AtomicBool::new(false),
                reported: AtomicBool::new(false),
                waiting: Notify::new(),
            }),
            started,
            printed: Printed::new(settings, Some(request_id)),
            _permits: permits,
            _under_way: under_way,
        }
    }

    /// Notes the reason of a stop. The first one counts: the others follow from it. A refusal of memory is not a stop by
    /// itself, since the component may cope with it; it explains a trap.
    pub(crate) fn note(&self, stop: Stop) {
        if stop == Stop::Memory {
            self.reporter.memory_refused.store(true, Ordering::Relaxed);
        } else {
            let _ = self.stop.set(stop);
        }
    }

    pub(super) fn memory_refused(&self) -> bool {
        self.reporter.memory_refused.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) -> Option<Stop> {
        self.stop.get().copied()
    }

    /// The client has gone: the work on its request ends.
    pub(crate) fn client_gone(&self) {
        self.gone.store(true, Ordering::Release);
        self.watcher.wake();
    }

    pub(super) fn is_client_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// The answer is complete: what the instance still does is no longer cut short by the client's leaving.
    pub(crate) fn set_answered(&self) {
        self.reporter.answered.store(true, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self) -> bool {
        self.reporter.answered.load(Ordering::Relaxed)
    }

    /// The instance has trapped or was stopped. Noted before the instance is freed, so that whoever sees its answer end
    /// can tell that it did not end by itself.
    pub(super) fn set_failed(&self) {
        self.failed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The answer has begun: a failure from now on shows nowhere else, so it is counted here.
    pub(super) fn set_responded(&self) {
        self.responded.store(true, Ordering::SeqCst);
        self.count_late_failure();
    }

    /// Counts a failure after the beginning of the answer, whichever of both is noted last.
    pub(super) fn count_late_failure(&self) {
        if !self.responded.load(Ordering::SeqCst)
            || !self.failed.load(Ordering::SeqCst)
            || self.is_client_gone()
            || self.counted.swap(true, Ordering::SeqCst)
        {
            return;
        }
        let observed = &self.reporter.settings.observed;
        match self.stop().is_some() || self.memory_refused() {
            true => observed.timeout(),
            false => observed.trap(),
        }
    }

    /// Says once why the answer broke off, unless whoever frees the instance is about to.
    pub(super) fn report_broken_answer(&self, error: &impl std::fmt::Display) {
        match self.stop() {
            _ if self.failed() => {}
            Some(stop) => self.reporter.report_stop(stop),
            None => self
                .reporter
                .report(Reported::BrokenAnswer, &error.to_string()),
        }
    }

    /// Whether the client has gone. If not yet, the one who asked last is woken when it does.
    pub(super) fn poll_client_gone(&self, context: &Context<'_>) -> bool {
        // Registered first, so that a client that leaves in between is not missed.
        self.watcher.register(context.waker());
        self.is_client_gone()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.reporter.settings.observed.ran(self.started.elapsed());
    }
}
