//! A durable log on JetStream: a stream of one subject, to which messages are added in order, and which is read from any position.

use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::datetime::DateTime;
use async_nats::jetstream::consumer::pull::{self, Batch};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use async_nats::jetstream::context::{
    GetStreamError, GetStreamErrorKind, PublishError, PublishErrorKind, RequestError,
    RequestErrorKind,
};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    Compression, Config as StreamConfig, RawMessageErrorKind, Stream,
};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};

use crate::connection::Connection;

/// How long the server knows the ids of messages, to drop those that are added twice.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(300);
/// The server requires more than 100 ms.
const MIN_AGE: Duration = Duration::from_secs(60);
/// Messages that wait for the reader at most. The client drops those beyond its limit for each subscription.
const BATCH: usize = 200;
/// How long the reader waits for messages before it asks again.
const PULL: Duration = Duration::from_secs(5);
/// How long the server keeps what it knows of a reader that is gone.
const READER_KEPT: Duration = Duration::from_secs(60);
/// Time for one operation of JetStream.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes for the headers of a message.
const MAX_HEADERS: usize = 1 << 10;

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the stream, and its subject.
    pub name: String,
    /// How long messages are kept, a minute at least; `None`: for ever.
    pub max_age: Option<Duration>,
    /// Servers of the NATS cluster that keep each message.
    pub replicas: usize,
}

/// A durable log.
pub struct Log {
    connection: Connection,
    config: Config,
}

/// Why an operation on a log failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The message is larger than the server accepts.
    #[error(
        "the message has more than the {limit} bytes that the NATS server accepts (its `max_payload`)"
    )]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// There is no connection.
    #[error("there is no connection to NATS")]
    Disconnected,
    /// There is no JetStream.
    #[error(
        "the NATS server has no JetStream, or not for this account; start it with `-js`, or enable it in its configuration"
    )]
    Disabled,
    /// JetStream is not available.
    #[error("JetStream is not available: {0}")]
    Unavailable(String),
    /// Messages did not arrive, or the stream was deleted: the log must be read again from a position.
    #[error("messages of the stream were missed")]
    Missed,
}

impl Error {
    fn unavailable(error: impl std::fmt::Display) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// A message of the log.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it is.
    pub position: Position,
    /// Its bytes.
    pub payload: Bytes,
}

/// Where a message is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its sequence number in the stream.
    pub sequence: u64,
    /// When the server got it, in nanoseconds since 1970.
    pub time: i64,
}

impl Position {
    fn new(sequence: u64, time: DateTime) -> Self {
        Self {
            sequence,
            time: i64::try_from(time.unix_timestamp_nanos()).unwrap_or(i64::MAX),
        }
    }
}

impl Log {
    /// Returns the log of a connection. The stream is created when it is needed.
    #[must_use]
    pub fn new(connection: &Connection, config: Config) -> Self {
        Self {
            connection: connection.clone(),
            config,
        }
    }

    /// Returns how many bytes a message may have now. 0 before the first connection.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        let (client, _) = self.connection.client();
        client.max_payload().saturating_sub(MAX_HEADERS)
    }

    /// Adds a message, and waits until it is kept. The server drops a message with the id of one of the last minutes.
    ///
    /// # Errors
    /// Any [`Error`] but [`Error::Missed`]. The message may have been added, unless it is too large.
    pub async fn add(&self, id: &str, payload: impl Into<Bytes>) -> Result<(), Error> {
        let (context, payload) = (self.context()?, payload.into());
        let message = || {
            PublishMessage::build()
                .message_id(id)
                .payload(payload.clone())
        };
        let mut result = self.publish(&context, message()).await;
        if let Err(error) = &result
            && error.kind() == PublishErrorKind::StreamNotFound
        {
            self.stream(&context).await?;
            result = self.publish(&context, message()).await;
        }
        result.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Error::TooLarge {
                limit: self.connection.client().0.max_payload(),
            },
            _ => Error::unavailable(error),
        })
    }

    async fn publish(
        &self,
        context: &Context,
        message: PublishMessage,
    ) -> Result<(), PublishError> {
        let sent = context
            .send_publish(self.config.name.clone(), message)
            .await?;
        sent.await.map(drop)
    }

    /// Reads the log after a position. If there is no such message any more, or `after` is `None`, reads it from the beginning.
    ///
    /// # Errors
    /// [`Error::Disconnected`] or [`Error::Unavailable`].
    pub async fn read(&self, after: Option<Position>) -> Result<Reader, Error> {
        let context = self.context()?;
        let stream = self.stream(&context).await?;
        let deliver_policy = match after {
            Some(position) if has(&stream, position).await? => DeliverPolicy::ByStartSequence {
                start_sequence: position.sequence + 1,
            },
            Some(_) => {
                tracing::info!(
                    stream = self.config.name,
                    "the last message that was read is no longer in the stream; reading it from its beginning"
                );
                DeliverPolicy::All
            }
            None => DeliverPolicy::All,
        };
        let config = pull::Config {
            deliver_policy,
            ack_policy: AckPolicy::None,
            inactive_threshold: READER_KEPT,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await;
        Ok(Reader {
            client: context.client(),
            consumer: consumer.map_err(Error::unavailable)?,
            batch: None,
            received: 0,
        })
    }

    fn context(&self) -> Result<Context, Error> {
        let (client, _) = self.connection.client();
        check(&client)?;
        let mut context = jetstream::new(client);
        context.set_timeout(TIMEOUT);
        Ok(context)
    }

    /// Finds or creates the stream. What an operator has set besides is left alone.
    async fn stream(&self, context: &Context) -> Result<Stream, Error> {
        let Config {
            name,
            max_age,
            replicas,
        } = &self.config;
        let max_age = max_age.map_or(Duration::ZERO, |age| age.max(MIN_AGE));
        let with_settings = |config: StreamConfig| StreamConfig {
            max_age,
            num_replicas: *replicas,
            duplicate_window: match max_age {
                Duration::ZERO => DUPLICATE_WINDOW,
                max_age => max_age.min(DUPLICATE_WINDOW),
            },
            ..config
        };
        match context.get_stream(name).await {
            Ok(stream) => {
                let current = &stream.cached_info().config;
                let config = with_settings(current.clone());
                if config != *current {
                    let updated = context.update_stream(config).await;
                    updated.map_err(Error::unavailable)?;
                }
                Ok(stream)
            }
            Err(error) if is_not_found(&error.kind()) => {
                let config = with_settings(StreamConfig {
                    name: name.clone(),
                    subjects: vec![name.clone()],
                    compression: Some(Compression::S2),
                    ..StreamConfig::default()
                });
                // Another host may do the same.
                let created = context.get_or_create_stream(config).await;
                created.map_err(Error::unavailable)
            }
            Err(error) if has_no_responder(&error) => Err(Error::Disabled),
            Err(error) => Err(Error::unavailable(error)),
        }
    }
}

/// Checks that there is a connection. A client without one would keep requests until it has one, and then send them all.
fn check(client: &Client) -> Result<(), Error> {
    match client.connection_state() {
        State::Connected => Ok(()),
        State::Pending | State::Disconnected => Err(Error::Disconnected),
    }
}

fn is_not_found(error: &GetStreamErrorKind) -> bool {
    matches!(error, GetStreamErrorKind::JetStream(error) if error.code() == 404)
}

/// Whether nobody has taken the request.
fn has_no_responder(error: &GetStreamError) -> bool {
    let source = std::error::Error::source(error);
    source
        .and_then(|source| source.downcast_ref::<RequestError>())
        .is_some_and(|error| error.kind() == RequestErrorKind::NoResponders)
}

/// Whether a message is still in the stream. Another one may have its sequence number: of a stream that was created anew, or after the
/// server has lost its last messages.
async fn has(stream: &Stream, position: Position) -> Result<bool, Error> {
    match stream.get_raw_message(position.sequence).await {
        Ok(message) => Ok(Position::new(message.sequence, message.time) == position),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(false),
        Err(error) => Err(Error::unavailable(error)),
    }
}

/// Reads a log.
pub struct Reader {
    client: Client,
    consumer: PullConsumer,
    /// Messages that the server was asked for.
    batch: Option<Batch>,
    /// Messages that have arrived. The server numbers those that it sends.
    received: u64,
}

impl Reader {
    /// Waits for the next messages, and returns those that have arrived; none if there are none for a while.
    ///
    /// # Errors
    /// Any [`Error`] but [`Error::TooLarge`]. The log must be read anew.
    pub async fn next(&mut self) -> Result<Vec<Message>, Error> {
        let (batch, is_new) = match self.batch.take() {
            Some(batch) => (batch, false),
            None => (self.request().await?, true),
        };
        let batch = self.batch.insert(batch);
        let mut messages = Vec::new();
        let mut next = batch.next().await;
        loop {
            match next {
                Some(message) => {
                    let message = message.map_err(Error::unavailable)?;
                    let info = message.info().map_err(Error::unavailable)?;
                    if info.consumer_sequence != self.received + 1 {
                        return Err(Error::Missed);
                    }
                    self.received += 1;
                    messages.push(Message {
                        position: Position::new(info.stream_sequence, info.published),
                        payload: message.message.payload,
                    });
                }
                None => {
                    self.batch = None;
                    break;
                }
            }
            match batch.next().now_or_never() {
                Some(ready) => next = ready,
                None => break,
            }
        }
        if is_new && messages.is_empty() {
            self.check_received().await?;
        }
        Ok(messages)
    }

    async fn request(&self) -> Result<Batch, Error> {
        check(&self.client)?;
        let request = self.consumer.batch().max_messages(BATCH).expires(PULL);
        request.messages().await.map_err(Error::unavailable)
    }

    /// Checks that what the server has sent has arrived: it may have been lost with a connection.
    async fn check_received(&self) -> Result<(), Error> {
        check(&self.client)?;
        let info = self.consumer.get_info().await.map_err(Error::unavailable)?;
        match info.delivered.consumer_sequence == self.received {
            true => Ok(()),
            false => Err(Error::Missed),
        }
    }
}
