//! The connection to NATS, which is made again whenever it breaks.

use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::client::{PublishErrorKind, RequestErrorKind};
use async_nats::connection::State;
use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, Request, Subscriber,
};
use bytes::Bytes;
use futures::StreamExt as _;
use http::HeaderMap;

use crate::config::Config;
use crate::error::Error;
use crate::message::{Message, nats_headers};
use crate::subject::{Pattern, is_subject};

/// Time for the first connection, and for a message to leave.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Time for the last messages to leave when the host stops.
const LAST_FLUSH: Duration = Duration::from_secs(1);

/// Messages of a subscription that wait for the host. More are dropped by the client, with a warning in the log. They wait for
/// moments only: what the host takes is limited by its size.
const MAX_WAITING: usize = 4096;

/// Time before another client is started.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Messages that wait to leave this process. Each may have as many bytes as the server accepts.
const MAX_UNSENT: usize = 128;

/// Maximum length of an error of the server in the log, in bytes: it may say anything.
const MAX_ERROR: usize = 1 << 10;
/// Minimum time between two such lines. Those in between are counted.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// A connection to NATS.
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

struct Shared {
    config: Config,
    /// What it is for, in the log.
    purpose: String,
    current: Mutex<Current>,
}

#[derive(Clone)]
struct Current {
    client: Client,
    /// Number of clients before this one.
    generation: u64,
}

/// Whether there is a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Messages can be sent and received.
    Connected,
    /// The client is trying to connect.
    Connecting,
}

impl Connection {
    /// Connects. If no server can be reached, goes on trying, with a warning in the log.
    ///
    /// # Errors
    /// When a file cannot be read, or the server does not accept the host.
    pub async fn open(config: Config) -> anyhow::Result<Self> {
        let purpose = "messages of components";
        let client = connect(&config, purpose).await?;
        Ok(Self::new(config, client, purpose.to_owned()))
    }

    /// Opens another connection with the same settings. What one of them receives neither delays nor interrupts the other. `purpose`
    /// is what it is for, in the log.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn another(&self, purpose: String) -> anyhow::Result<Self> {
        let config = self.0.config.clone();
        let client = connect_in_the_background(&config, &purpose).await?;
        Ok(Self::new(config, client, purpose))
    }

    fn new(config: Config, client: Client, purpose: String) -> Self {
        let current = Current {
            client,
            generation: 0,
        };
        let shared = Arc::new(Shared {
            config,
            purpose,
            current: Mutex::new(current),
        });
        tokio::spawn(replace_when_it_ends(Arc::downgrade(&shared)));
        Self(shared)
    }

    /// Returns the client, and the number of those before it.
    pub(crate) fn client(&self) -> (Client, u64) {
        let Current { client, generation } = self.0.current();
        (client, generation)
    }

    /// Returns whether there is a connection now.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.client().0.connection_state() {
            State::Connected => Status::Connected,
            State::Pending | State::Disconnected => Status::Connecting,
        }
    }

    /// Subscribes to the subjects of a pattern. Each message goes to one subscription of the group. The subscription survives the
    /// connection.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn subscribe(&self, subjects: &Pattern, group: &str) -> Result<Subscription, Error> {
        let (subject, group) = (subjects.as_str().to_owned(), group.to_owned());
        let (client, _) = self.client();
        let subscribed = client.queue_subscribe(subject, group).await;
        let subscribed = subscribed.map_err(|_| Error::Disconnected)?;
        if client.connection_state() == State::Connected {
            client.flush().await.map_err(|_| Error::Disconnected)?;
        }
        Ok(Subscription(subscribed))
    }

    /// Sends a message, and waits until it has left this process, for five seconds at most.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::InvalidSubject`], or [`Error::Disconnected`].
    pub async fn publish(&self, message: Message, headers: &HeaderMap) -> Result<(), Error> {
        let Message {
            subject,
            reply_to,
            body,
            ..
        } = message;
        for subject in [Some(&subject), reply_to.as_ref()].into_iter().flatten() {
            check(subject)?;
        }
        let headers = nats_headers(headers);
        let (client, _) = self.client();
        let publishing = async {
            let published = match reply_to {
                Some(reply_to) => {
                    client
                        .publish_with_reply_and_headers(subject, reply_to, headers, body)
                        .await
                }
                None => client.publish_with_headers(subject, headers, body).await,
            };
            published.map_err(|error| match error.kind() {
                PublishErrorKind::MaxPayloadExceeded => too_large(&client),
                PublishErrorKind::InvalidSubject | PublishErrorKind::Send => Error::Disconnected,
            })?;
            client.flush().await.map_err(|_| Error::Disconnected)
        };
        tokio::time::timeout(TIMEOUT, publishing)
            .await
            .unwrap_or(Err(Error::Disconnected))
    }

    /// Sends a message and waits for the answer.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn request(
        &self,
        subject: &str,
        headers: &HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Message, Error> {
        check(subject)?;
        let request = Request::new()
            .payload(body)
            .headers(nats_headers(headers))
            .timeout(Some(timeout));
        let (client, _) = self.client();
        let answered = client.send_request(subject.to_owned(), request).await;
        answered
            .map(Message::from)
            .map_err(|error| match error.kind() {
                RequestErrorKind::TimedOut => Error::TimedOut(subject.to_owned()),
                RequestErrorKind::NoResponders => Error::NoResponders(subject.to_owned()),
                RequestErrorKind::InvalidSubject => Error::InvalidSubject(subject.to_owned()),
                RequestErrorKind::MaxPayloadExceeded => too_large(&client),
                RequestErrorKind::Other => Error::Disconnected,
            })
    }

    /// Waits until all messages have been sent, for a second at most.
    pub async fn flush(&self) {
        let (client, _) = self.client();
        let flushed = tokio::time::timeout(LAST_FLUSH, client.flush()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!("the last messages to NATS may not have been sent");
        }
    }
}

impl Shared {
    fn current(&self) -> Current {
        let current = self.current.lock();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Connects. If no server can be reached, the client goes on trying.
async fn connect(config: &Config, purpose: &str) -> anyhow::Result<Client> {
    let servers = config.servers.iter().map(ToString::to_string);
    let servers = servers.collect::<Vec<_>>().join(", ");
    let options = with_common(config.options().await?, purpose);
    let error = match options.connect(config.addresses()).await {
        Ok(client) => return Ok(client),
        Err(error) => error,
    };
    let failed = || format!("cannot connect to NATS at {servers}");
    let may_pass = may_pass(&error);
    let error = anyhow::Error::from(error);
    if !may_pass {
        return Err(error.context(failed()));
    }
    tracing::warn!(
        servers,
        error = format!("{error:#}"),
        "NATS cannot be reached; trying again until it can"
    );
    connect_in_the_background(config, purpose)
        .await
        .with_context(failed)
}

/// Returns a client that connects, and goes on trying if no server can be reached.
async fn connect_in_the_background(config: &Config, purpose: &str) -> anyhow::Result<Client> {
    let options = with_common(config.options().await?, purpose).retry_on_initial_connect();
    Ok(options.connect(config.addresses()).await?)
}

/// Replaces the client when it ends. It connects again by itself, but a server that does not keep to the protocol can end it.
async fn replace_when_it_ends(shared: Weak<Shared>) {
    loop {
        let Some(current) = shared.upgrade().map(|shared| shared.current()) else {
            return;
        };
        let client = current.client;
        if let Ok(mut never) = client.subscribe(client.new_inbox()).await {
            drop(client);
            while never.next().await.is_some() {}
        }
        let Some(shared) = shared.upgrade() else {
            return;
        };
        tracing::error!("the client of NATS has ended; starting another one");
        tokio::time::sleep(RESTART_DELAY).await;
        match connect(&shared.config, &shared.purpose).await {
            Ok(client) => {
                let current = shared.current.lock();
                let mut current = current.unwrap_or_else(PoisonError::into_inner);
                current.client = client;
                current.generation += 1;
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "NATS is not connected"),
        }
    }
}

fn too_large(client: &Client) -> Error {
    Error::TooLarge {
        limit: client.max_payload(),
    }
}

/// Messages of a subscription.
pub struct Subscription(Subscriber);

impl Subscription {
    /// Waits for the next message; `None` after [`end`](Self::end), when all messages that had arrived before it were returned, or
    /// when the client has ended.
    pub async fn next(&mut self) -> Option<Message> {
        self.0.next().await.map(Message::from)
    }

    /// Ends the subscription: the server sends no more messages.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn end(&mut self) -> Result<(), Error> {
        self.0.drain().await.map_err(|_| Error::Disconnected)
    }
}

fn check(subject: &str) -> Result<(), Error> {
    match is_subject(subject) {
        true => Ok(()),
        false => Err(Error::InvalidSubject(subject.to_owned())),
    }
}

/// Returns options with what all connections have.
fn with_common(options: ConnectOptions, purpose: &str) -> ConnectOptions {
    let log = Arc::new(EventLog {
        purpose: purpose.to_owned(),
        connected: Limited::default(),
        lost: Limited::default(),
        dropped: Limited::default(),
        errors: Limited::default(),
    });
    options
        .name(format!("whisper-host: {purpose}"))
        .connection_timeout(TIMEOUT)
        .subscription_capacity(MAX_WAITING)
        .client_capacity(MAX_UNSENT)
        .event_callback(move |event| {
            log.write(&event);
            std::future::ready(())
        })
}

/// Logs the events of a connection. A server, or those who send messages, may cause any number of them.
struct EventLog {
    /// What the connection is for.
    purpose: String,
    connected: Limited,
    lost: Limited,
    dropped: Limited,
    errors: Limited,
}

/// Lines of one kind: one per [`LOG_INTERVAL`]. Messages that are malformed break the connection, any number of times.
#[derive(Default)]
struct Limited(Mutex<(Option<Instant>, u64)>);

impl Limited {
    /// Returns how many were left out since the last line; `None` if this one is left out, too.
    fn allows(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, left_out) = &mut *state;
        if last.is_some_and(|last| last.elapsed() < LOG_INTERVAL) {
            *left_out += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(left_out))
    }
}

impl EventLog {
    fn write(&self, event: &Event) {
        match event {
            Event::Connected if self.connected.allows().is_some() => {
                tracing::info!(r#for = self.purpose, "connected to NATS");
            }
            Event::Disconnected if self.lost.allows().is_some() => {
                tracing::warn!(
                    r#for = self.purpose,
                    "the connection to NATS is lost; connecting again"
                );
            }
            Event::LameDuckMode => tracing::info!("the NATS server is about to stop"),
            Event::SlowConsumer(_) if self.dropped.allows().is_some() => {
                tracing::warn!(
                    r#for = self.purpose,
                    "messages from NATS were dropped: they arrive faster than the host takes them"
                );
            }
            Event::ServerError(error) => self.error("the NATS server reports an error", error),
            Event::ClientError(error) => self.error("NATS cannot be reached", error),
            _ => {}
        }
    }

    fn error(&self, message: &str, error: &impl std::fmt::Display) {
        if let Some(left_out) = self.errors.allows() {
            let error = error.to_string();
            let error = &error[..error.floor_char_boundary(MAX_ERROR)];
            tracing::warn!(error, left_out, "{message}");
        }
    }
}

/// Whether an error may pass without a change of the settings.
fn may_pass(error: &ConnectError) -> bool {
    let may_pass = matches!(
        error.kind(),
        ConnectErrorKind::Dns
            | ConnectErrorKind::TimedOut
            | ConnectErrorKind::Io
            | ConnectErrorKind::MaxReconnects
    );
    // TLS reports a refused certificate as malformed data.
    let is_tls = |cause: &(dyn std::error::Error + 'static)| {
        let error = cause.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
    };
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    may_pass && !causes.any(is_tls)
}
