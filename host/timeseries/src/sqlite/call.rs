//! Calls to the store's threads.

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::message::{Message, Position};
use crate::{Error, Point};

/// A request to a thread, with the channel for its reply.
pub(super) struct Call<T, R> {
    pub(super) request: T,
    pub(super) reply: oneshot::Sender<Result<R, Error>>,
}

/// What the thread that writes does.
pub(super) enum Change {
    /// Adds points of this store.
    Write(Vec<Point>),
    /// Adds points of others, up to a position in the log.
    Apply(Vec<Message<Point>>, Position),
    /// Removes points that are in the log, up to the one with this number.
    Confirm(i64),
}

pub(super) type Write = Call<Change, ()>;
/// Reads from the reader's connection and replies.
pub(super) type Read = Box<dyn FnOnce(&mut Connection) + Send>;

/// Sends a request to a thread and waits for the reply.
pub(super) async fn call<T, R>(
    thread: Option<&mpsc::Sender<Call<T, R>>>,
    request: T,
) -> Result<R, Error> {
    let (reply, replied) = oneshot::channel();
    let thread = thread.ok_or_else(stopped)?;
    thread
        .send(Call { request, reply })
        .await
        .map_err(|_| stopped())?;
    replied.await.unwrap_or_else(|_| Err(stopped()))
}

/// The error of a call whose thread has stopped.
pub(super) fn stopped() -> Error {
    Error::Unavailable("the store's thread has stopped; the log has the reason".into())
}
