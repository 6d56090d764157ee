//! What the scheduler's thread shares with those who hand windows to it.

use super::metrics::Counters;
use super::queue::Queue;
use super::window::Window;
use crate::Error;

/// The queue of one model.
pub(crate) struct Scheduler {
    pub(super) queue: Queue<Window>,
    pub counters: Counters,
}

impl Scheduler {
    pub fn new() -> Self {
        Self {
            queue: Queue::new(),
            counters: Counters::default(),
        }
    }

    /// Queues a window.
    ///
    /// # Errors
    /// [`Error::Internal`] after `close`.
    pub fn submit(&self, window: Window) -> Result<(), Error> {
        self.queue.push(window).map_err(|_| closed())
    }

    /// Windows that wait and are wanted.
    pub fn waiting(&self) -> usize {
        self.queue.len()
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
