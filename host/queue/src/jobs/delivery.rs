//! A job that was handed to this worker.

use std::time::Duration;

use async_nats::jetstream::{AckKind, Message};
use uuid::Uuid;

use super::error::Error;

/// A job that was handed to this worker, and to no other until it is silent for too long.
pub struct Delivery {
    message: Message,
}

impl Delivery {
    pub(super) fn new(message: Message) -> Self {
        Self { message }
    }

    /// Returns the id of the job; `None` if it was not a host that sent it.
    #[must_use]
    pub fn id(&self) -> Option<Uuid> {
        let text = std::str::from_utf8(&self.message.payload).ok()?;
        text.parse().ok()
    }

    /// Returns how often it was delivered, this time included.
    #[must_use]
    pub fn number(&self) -> u32 {
        let delivered = self.message.info().map_or(1, |info| info.delivered);
        u32::try_from(delivered).unwrap_or(u32::MAX)
    }

    /// Says that the job is being worked on.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn progress(&self) -> Result<(), Error> {
        let sent = self.message.ack_with(AckKind::Progress).await;
        sent.map_err(Error::unavailable)
    }

    /// Hands the job back: a worker gets it again after `delay`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn hand_back(&self, delay: Duration) -> Result<(), Error> {
        let sent = self.message.ack_with(AckKind::Nak(Some(delay))).await;
        sent.map_err(Error::unavailable)
    }

    /// Says that the job has ended, and waits until the server knows.
    ///
    /// # Errors
    /// [`Error::Unavailable`]. The job is delivered again.
    pub async fn end(&self) -> Result<(), Error> {
        self.message.double_ack().await.map_err(Error::unavailable)
    }
}
