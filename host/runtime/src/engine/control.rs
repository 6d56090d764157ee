//! One request's reins: when it must be over, whether its client is still there, and why it was stopped.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Why a request was stopped before its component had answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its wall-clock time was over.
    Timeout,
    /// It had computed for too long.
    Cpu,
    /// Its component asked for more memory than it may have.
    Memory,
    /// Its body was larger than allowed.
    BodyTooLarge,
    /// Its body stopped coming.
    BodyIdle,
}

/// Shared by the request's body, the instance that serves it, and whoever waits for the answer. The last of them to go
/// frees the request's places among those that run at the same time.
pub(crate) struct Control {
    /// For logs and answers.
    pub(crate) request_id: uuid::Uuid,
    pub(super) deadline: Instant,
    /// Cancelled when the client has gone.
    gone: CancellationToken,
    stop: OnceLock<Stop>,
    answered: AtomicBool,
    failed: AtomicBool,
    _places: Vec<OwnedSemaphorePermit>,
}

impl Control {
    pub(crate) fn new(
        request_id: uuid::Uuid,
        timeout: Duration,
        places: Vec<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            request_id,
            deadline: Instant::now() + timeout,
            gone: CancellationToken::new(),
            stop: OnceLock::new(),
            answered: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            _places: places,
        }
    }

    /// Notes the reason of a stop. The first one counts: the others follow from it.
    pub(crate) fn note(&self, stop: Stop) {
        let _ = self.stop.set(stop);
    }

    pub(crate) fn stop(&self) -> Option<Stop> {
        self.stop.get().copied()
    }

    /// The client has gone: the work on its request ends.
    pub(crate) fn client_gone(&self) {
        self.gone.cancel();
    }

    pub(super) fn is_client_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// The answer is complete: what the instance still does is no longer cut short by the client's leaving.
    pub(crate) fn set_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// The instance has trapped or was stopped. Noted before the instance is freed, so that whoever sees its answer end
    /// can tell that it did not end by itself.
    pub(super) fn set_failed(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Resolves when the request must not go on: at its deadline, or when the client has gone.
    pub(super) async fn over(&self) {
        tokio::select! {
            () = self.gone.cancelled() => {}
            () = tokio::time::sleep_until(self.deadline) => self.note(Stop::Timeout),
        }
    }
}
