//! Taking jobs from a stream.

use std::time::Duration;

use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::stream::Stream;
use futures::StreamExt as _;

use super::delivery::Delivery;
use super::error::Error;

/// How long a worker waits for a job before it asks again.
const PULL: Duration = Duration::from_secs(30);

/// Takes jobs of a component from a stream.
pub struct Worker {
    consumer: PullConsumer,
}

impl Worker {
    pub(super) async fn new(stream: &Stream, config: pull::Config) -> Result<Self, Error> {
        let consumer = stream.create_consumer(config).await;
        Ok(Self {
            consumer: consumer.map_err(Error::unavailable)?,
        })
    }

    /// Waits for the next job; `None` if there is none for a while.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn next(&self) -> Result<Option<Delivery>, Error> {
        let batch = self.consumer.batch().max_messages(1).expires(PULL);
        let mut batch = batch.messages().await.map_err(Error::unavailable)?;
        match batch.next().await {
            Some(Ok(message)) => Ok(Some(Delivery::new(message))),
            Some(Err(error)) => Err(Error::Unavailable(error.to_string())),
            None => Ok(None),
        }
    }
}
