//! The target of invocations: a component with its limits and its queue.

use std::sync::Arc;
use std::time::Duration;

use manifest::Limits;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::admission::{Admission, Gauges, Permit, Refused};
use super::caller::Caller;
use super::invocations::Invocations;
use super::metrics::Snapshot;
use super::stop::Stop;
use super::telemetry::Telemetry;
use crate::error::{Code, Failure};

/// State shared by all invocations of a component, from any trigger.
pub(crate) struct Target {
    pub(crate) id: Arc<str>,
    pub(crate) limits: Limits,
    pub(crate) telemetry: Arc<Telemetry>,
    admission: Arc<Admission>,
    invocations: Arc<Invocations>,
}

/// How long clients are asked to wait before a retry when a component is overloaded.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Target {
    pub(crate) fn new(id: &str, limits: Limits, invocations: &Arc<Invocations>) -> Self {
        let telemetry = invocations.telemetry.of(id);
        let gauges = Gauges {
            running: telemetry.metrics.active.clone(),
            waiting: telemetry.metrics.waiting.clone(),
        };
        let admission = Admission::new(
            limits.concurrency,
            limits.client_concurrency,
            limits.queue,
            gauges,
        );
        Self {
            id: id.into(),
            telemetry,
            limits,
            admission: Arc::new(admission),
            invocations: Arc::clone(invocations),
        }
    }

    /// Waits for a permit of this component and one of the host.
    ///
    /// # Errors
    /// [`Failure`] when too many are running and waiting, or the wait is too long.
    pub(crate) async fn admit(&self, caller: Caller) -> Result<[Permit; 2], Failure> {
        let metrics = &self.telemetry.metrics;
        match self.acquire(caller).await {
            Ok((permits, waited)) => {
                metrics.admitted.increment(1);
                metrics.queue_duration.record(waited);
                Ok(permits)
            }
            Err(failure) => {
                metrics.rejected.increment(1);
                Err(failure)
            }
        }
    }

    /// Waits for the permits. Returns the time it waited, too.
    async fn acquire(&self, caller: Caller) -> Result<([Permit; 2], Duration), Failure> {
        let timeout = self.limits.queue_timeout;
        let acquired = self.admission.acquire(caller, timeout).await;
        let (component, waited) = acquired.map_err(|refused| self.overloaded(refused))?;
        match self.invocations.admission.acquire(caller, timeout).await {
            Ok((host, more)) => Ok(([component, host], waited + more)),
            Err(_) => Err(self.failure(Stop::NoInstance)),
        }
    }

    /// Waits for permits for an event of a queue, however long: it waits in the queue, not here.
    pub(crate) async fn room(&self, caller: Caller) -> [Permit; 2] {
        loop {
            let component = self.admission.acquire(caller, Duration::MAX).await;
            if let Ok((component, _)) = component
                && let Ok((host, _)) = self
                    .invocations
                    .admission
                    .acquire(caller, Duration::MAX)
                    .await
            {
                return [component, host];
            }
            // Its queue is full.
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Counts an invocation that starts with permits from [`room`](Self::room).
    pub(crate) fn count_admitted(&self) {
        self.telemetry.metrics.admitted.increment(1);
    }

    /// Counts an invocation, or an event that leads to one, as in flight until the token is dropped.
    pub(crate) fn track(&self) -> TaskTrackerToken {
        self.invocations.token()
    }

    /// Returns whether the host has stopped waiting for invocations.
    pub(crate) fn host_has_stopped(&self) -> bool {
        self.invocations.have_stopped()
    }

    /// Waits until the host has stopped waiting for invocations.
    pub(crate) async fn host_stopped(&self) {
        self.invocations.stopped().await;
    }

    pub(crate) fn metrics(&self) -> Snapshot {
        self.invocations.telemetry.snapshot(&self.id)
    }

    fn overloaded(&self, refused: Refused) -> Failure {
        let (limits, id) = (&self.limits, &self.id);
        let message = match refused {
            Refused::Full => format!(
                "{} requests of component {id} are running and {} more are waiting, which is its limit; try again shortly",
                limits.concurrency, limits.queue
            ),
            Refused::Displaced => format!(
                "{} requests of component {id} are waiting, which is its limit, and this client has the most of them; try again shortly",
                limits.queue
            ),
            Refused::TimedOut => format!(
                "the request waited for component {id} for {}; try again shortly",
                humantime::format_duration(limits.queue_timeout)
            ),
        };
        Failure::new(Code::Overloaded, message).retry_after(RETRY_AFTER)
    }

    /// Returns the failure for an invocation that was stopped.
    pub(crate) fn failure(&self, stop: Stop) -> Failure {
        let limits = &self.limits;
        match stop {
            Stop::Timeout => Failure::new(
                Code::Deadline,
                format!(
                    "the request took longer than the {} that component {} has; send less at once, or let the operator raise `timeout`",
                    humantime::format_duration(limits.timeout),
                    self.id
                ),
            ),
            Stop::NoInstance => Failure::new(
                Code::Overloaded,
                format!(
                    "all of the host's instances were in use for {}; try again shortly",
                    humantime::format_duration(limits.queue_timeout)
                ),
            )
            .retry_after(RETRY_AFTER),
            Stop::Cpu => Failure::new(
                Code::Deadline,
                format!(
                    "component {} computed for longer than the {} it has for one request; send less at once, or let the operator raise `cpu`",
                    self.id,
                    humantime::format_duration(limits.cpu)
                ),
            ),
            Stop::Memory => Failure::new(
                Code::MemoryLimit,
                format!(
                    "component {} needed more than the {} of memory it has; send less at once, or let the operator raise `memory`",
                    self.id, limits.memory
                ),
            ),
            Stop::BodyTooLarge => Failure::new(
                Code::BodyTooLarge,
                format!(
                    "the request's body is larger than the {} that component {} takes; compress or split it, or let the operator raise `request_body`",
                    limits.request_body, self.id
                ),
            ),
            Stop::BodyIdle => Failure::new(
                Code::RequestTimeout,
                format!(
                    "less than {} of the request's body arrived in {}; send it again over a better connection",
                    limits.body_progress,
                    humantime::format_duration(limits.body_idle)
                ),
            ),
        }
    }

    /// Returns the failure for an invocation whose component failed by itself.
    pub(crate) fn failed(&self, request_id: uuid::Uuid) -> Failure {
        Failure::new(
            Code::ComponentTrap,
            format!(
                "component {} failed; the reason is in the host's log under request {request_id}",
                self.id
            ),
        )
    }
}
