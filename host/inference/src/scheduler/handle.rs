//! State shared by the scheduler's thread and the transcriptions.

use super::pace::Pace;
use super::queue::Queue;
use super::window::Window;
use crate::Error;
use crate::metrics::Metrics;

/// The scheduler of one model.
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

    /// Returns the estimated seconds until the waiting windows are decoded, if they take as long as the last ones.
    pub fn backlog(&self) -> f64 {
        self.pace.seconds() * self.queue.len() as f64
    }

    /// Returns whether no window waits.
    pub fn is_idle(&self) -> bool {
        self.queue.len() == 0
    }

    /// Ends the thread after the current batch. Waiting windows fail with an error.
    pub fn close(&self) {
        for window in self.queue.close() {
            window.answer(Err(closed()));
        }
    }
}

fn closed() -> Error {
    Error::Internal("the engine has been shut down".into())
}
