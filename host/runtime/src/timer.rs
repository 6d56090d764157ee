//! A timer for a deadline that moves on with every request.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Set when it is first waited for, and set anew only for an earlier deadline or once it has gone off: a deadline that moves
/// on costs nothing then.
#[derive(Default)]
pub(crate) struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Ready when `deadline` is over; else the task is woken by then.
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

/// A timer for the waits of one connection, of which only one may be under way at a time.
#[derive(Clone, Default)]
pub(crate) struct SharedTimer(Arc<Mutex<LazyTimer>>);

impl SharedTimer {
    /// Ready when `deadline` is over; else the task is woken by then.
    pub(crate) fn poll_until(&self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        // Nothing panics while the lock is held, so a poisoned timer is still whole.
        let mut timer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        timer.poll_until(deadline, context)
    }

    /// What the future gives; none if that takes longer than `within`.
    pub(crate) async fn timeout<F: Future>(
        &self,
        within: Duration,
        future: F,
    ) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut deadline = None;
        std::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + within);
            self.poll_until(deadline, context).map(|()| None)
        })
        .await
    }
}
