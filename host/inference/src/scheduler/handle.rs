//! What the scheduler's thread shares with those who hand windows to it.

use super::pace::Pace;
use super::queue::Queue;
use super::window::Window;
use crate::Error;
use crate::metrics::Metrics;

/// The queue of one model.
pub(crate) struct Scheduler {
    pub(super) queue: Queue<Window>,
    pub(super) pace: Pace,
    pub metrics: Metrics,
}

impl Scheduler {
    pub fn new(metrics: Metrics) -> Self {
        Self {
            queue: Queue::new(metrics.windows_waiting.clone()),
            pace: Pace::default(),
            metrics,
        }
    }

    /// Queues a window.
    ///
    /// # Errors
    /// [`Error::Internal`] after `close`.
    pub fn submit(&self, window: Window) -> Result<(), Error> {
        self.queue.push(window).map_err(|_| closed())
    }

    /// Seconds until the windows that wait now are decoded, if they take as long as the last ones.
    pub fn backlog(&self) -> f64 {
        self.pace.seconds() * self.queue.len() as f64
    }

    /// Ends the thread after the batch under way. Windows that wait are answered with an error.
    pub fn close(&self) {
        for window in self.queue.close() {
            window.answer(Err(closed()));
        }
    }
}

fn closed() -> Error {
    Error::Internal("the engine has been shut down".into())
}
