//! Stores that share their points through a log, such as a stream of a message broker.
//!
//! A store that shares keeps each point that is written to it until it is in the log, and applies what others have added to the log.
//! Each opened store is an origin. It numbers its points in ascending order, and each file has the number of the last point of each
//! origin that it counts. So a point counts once in each file, however often it is in the log or the log is read.
//!
//! This needs the points of an origin to be in the log in their order: a message must be confirmed before the next one is added.

use crate::message::{self, Incoming, Outgoing, Position, Rejected};
use crate::sqlite::Sqlite;
use crate::{Error, MAX_POINTS};

/// The part of a store that moves points to and from the log.
#[derive(Clone, Copy)]
pub struct Sharing<'a>(pub(crate) &'a Sqlite);

impl Sharing<'_> {
    /// Waits until points were written since the last call.
    pub async fn written(&self) {
        self.0.written().await;
    }

    /// Returns the oldest points that are to be added to the log; `None` if there are none. The message has at most `max_bytes`, unless
    /// it has only one point, and at most [`MAX_POINTS`](crate::MAX_POINTS).
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn outgoing(&self, max_bytes: usize) -> Result<Option<Outgoing>, Error> {
        self.0.outgoing(max_bytes).await
    }

    /// Returns how many points are to be added to the log.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn waiting(&self) -> Result<u64, Error> {
        self.0.waiting().await
    }

    /// Forgets the points of a message that is in the log, or that the log will never take. They still count in this file.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn confirm(&self, sent: Outgoing) -> Result<(), Error> {
        self.0.confirm(sent.last).await
    }

    /// Returns where the last message is that was applied; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn position(&self) -> Result<Option<Position>, Error> {
        self.0.position().await
    }

    /// Applies messages, which are in the order of the log. Points that this file has already are left out. So are malformed messages and
    /// invalid points; these are returned. The position is that of the last message in each transaction.
    ///
    /// # Errors
    /// [`Error::Unavailable`]. The position shows what was applied.
    pub async fn apply(&self, messages: &[Incoming]) -> Result<Option<Rejected>, Error> {
        let mut rejected = None;
        let (mut batch, mut points) = (Vec::new(), 0);
        for (index, incoming) in messages.iter().enumerate() {
            let message = message::read(incoming, &mut rejected);
            points += message.as_ref().map_or(0, |message| message.points.len());
            batch.extend(message);
            // Writes wait for each transaction.
            if points >= MAX_POINTS || index + 1 == messages.len() {
                let batch = std::mem::take(&mut batch);
                self.0.apply(batch, incoming.position).await?;
                points = 0;
            }
        }
        Ok(rejected)
    }
}
