//! A timer for a deadline that moves with every request.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A timer that is created at the first poll, and reset only for an earlier deadline or after it has fired: moving the
/// deadline later costs nothing.
#[derive(Default)]
pub(crate) struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Returns `Ready` once `deadline` has passed; otherwise the task is woken by then.
    pub(crate) fn poll_until(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(context).is_ready() {
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// A timer shared by all waits of one connection; only one of them may be pending at a time.
#[derive(Clone, Default)]
pub(crate) struct SharedTimer(Arc<Mutex<LazyTimer>>);

impl SharedTimer {
    /// Returns `Ready` once `deadline` has passed; otherwise the task is woken by then.
    pub(crate) fn poll_until(&self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        // Nothing panics while the lock is held, so a poisoned timer is still consistent.
        let mut timer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        timer.poll_until(deadline, context)
    }

    /// Returns the future's output, or `None` if it takes longer than `duration`.
    pub(crate) async fn timeout<F: Future>(
        &self,
        duration: Duration,
        future: F,
    ) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut deadline = None;
        std::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + duration);
            self.poll_until(deadline, context).map(|()| None)
        })
        .await
    }
}
