//! Calls to the store's threads.

use tokio::sync::{mpsc, oneshot};

use crate::{Error, Point, Query};

/// A call on its way to a thread, with the place for its answer.
pub(super) struct Call<T, R> {
    pub(super) what: T,
    pub(super) answer: oneshot::Sender<Result<R, Error>>,
}

pub(super) type Write = Call<Vec<Point>, ()>;
pub(super) type Read = Call<Query, Option<f64>>;

/// Hands a call to a thread, and waits for its answer.
pub(super) async fn call<T, R>(
    thread: Option<&mpsc::Sender<Call<T, R>>>,
    what: T,
) -> Result<R, Error> {
    let (answer, answered) = oneshot::channel();
    let thread = thread.ok_or_else(stopped)?;
    thread
        .send(Call { what, answer })
        .await
        .map_err(|_| stopped())?;
    answered.await.unwrap_or_else(|_| Err(stopped()))
}

/// The error of a call whose thread is gone.
pub(super) fn stopped() -> Error {
    Error::Unavailable("the store's thread has stopped; the log has the reason".into())
}
