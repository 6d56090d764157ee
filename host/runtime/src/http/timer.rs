//! The timer of a connection. hyper would create and drop a timer for each request's headers.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use crate::timer::SharedTimer;

/// One tokio timer for all waits of a connection.
///
/// Only one wait may be pending at a time; hyper has no more per connection.
#[derive(Clone, Default)]
pub(super) struct ConnectionTimer(SharedTimer);

impl Timer for ConnectionTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Wait {
            timer: self.clone(),
            deadline: deadline.into(),
        })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

struct Wait {
    timer: ConnectionTimer,
    deadline: tokio::time::Instant,
}

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.timer.0.poll_until(self.deadline, context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::rt::Timer as _;

    use super::ConnectionTimer;

    #[tokio::test]
    async fn each_wait_ends_at_its_own_deadline() {
        let timer = ConnectionTimer::default();
        let cancelled = timer.sleep(Duration::from_secs(3600));
        let _ = tokio::time::timeout(Duration::from_millis(1), cancelled).await;
        // Earlier than the cancelled one; later than one that has ended; at once.
        for wait in [
            Duration::from_millis(20),
            Duration::from_millis(40),
            Duration::ZERO,
        ] {
            let deadline = timer.now() + wait;
            timer.sleep_until(deadline).await;
            assert!(timer.now() >= deadline);
        }
        // The timer fires for this wait while the next one is pending.
        let cancelled = timer.sleep(Duration::from_millis(10));
        let _ = tokio::time::timeout(Duration::from_millis(1), cancelled).await;
        let deadline = timer.now() + Duration::from_millis(40);
        timer.sleep_until(deadline).await;
        assert!(timer.now() >= deadline);
    }
}
