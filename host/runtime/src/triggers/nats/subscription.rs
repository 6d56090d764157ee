//! An entry `[[trigger.nats]]`: receives messages, and has each handled.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use queue::{Connection, Error, Message, Pattern, Status};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::config::Config;
use super::handler::MessageHandler;
use super::metrics;
use crate::capabilities::Answer;
use crate::error::{Code, Failure};
use crate::invocation::RequestIds;
use crate::triggers::arrival;

/// Bytes of the messages of one entry that are in the host's memory, in KiB: they arrive whether or not there is a permit for them.
const MAX_HELD: usize = 256 << 10;

/// Time before another subscription when one has ended.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// How long to wait for another message when the subscription has ended: the server sends what it had before it confirms the end.
const LAST_MESSAGE: Duration = Duration::from_secs(2);

/// What a message takes in addition to its body, in bytes: its headers, and its place in the queue.
const OVERHEAD: usize = 64 << 10;

/// How long senders are asked to wait when that many are.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An entry `[[trigger.nats]]`.
pub(crate) struct Subscribed {
    subjects: Pattern,
    group: Arc<str>,
    handler: Arc<MessageHandler>,
    /// Its subscription, when it has one: whoever has the sender says where the messages go.
    subscription: OnceLock<watch::Sender<Destination>>,
}

/// Where the messages of a subscription go.
#[derive(Clone)]
struct Destination {
    handler: Arc<MessageHandler>,
    /// Cancelled when no more messages are wanted.
    stop: CancellationToken,
}

impl Subscribed {
    pub(super) fn new(config: Config, handler: Arc<MessageHandler>) -> Self {
        let group = config.queue_group.map(|group| group.0.into());
        Self {
            subjects: config.subject.0,
            group: group.unwrap_or_else(|| Arc::clone(&handler.component().target().id)),
            handler,
            subscription: OnceLock::new(),
        }
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.handler.component().target().id
    }

    pub(super) fn subjects(&self) -> &Pattern {
        &self.subjects
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    /// Returns whether each message would go to one of the two entries only.
    pub(super) fn competes_with(&self, other: &Self) -> bool {
        self.subjects == other.subjects && self.group == other.group
    }

    /// Receives messages until `stop` is cancelled. The subscription of the entry that it replaces goes on, so that no message is
    /// missed.
    pub(super) fn start(
        &self,
        replaced: Option<&Self>,
        connection: &Connection,
        stop: &CancellationToken,
    ) {
        let destination = Destination {
            handler: Arc::clone(&self.handler),
            stop: stop.clone(),
        };
        let subscription = self.subscription.get_or_init(|| {
            let existing = replaced.and_then(|replaced| replaced.subscription.get());
            existing.cloned().unwrap_or_else(|| {
                let (sender, receiver) = watch::channel(destination.clone());
                let receiving = Receiving {
                    subjects: self.subjects.clone(),
                    group: Arc::clone(&self.group),
                    destination: receiver,
                    held: Arc::new(Semaphore::new(MAX_HELD)),
                };
                tokio::spawn(receiving.serve(connection.clone()));
                sender
            })
        });
        subscription.send_replace(destination);
    }
}

/// A subscription.
struct Receiving {
    subjects: Pattern,
    group: Arc<str>,
    destination: watch::Receiver<Destination>,
    held: Arc<Semaphore>,
}

impl Receiving {
    fn destination(&self) -> Destination {
        self.destination.borrow().clone()
    }

    /// Waits until no more messages are wanted.
    async fn stopped(&self) {
        loop {
            let stop = self.destination().stop;
            stop.cancelled().await;
            // It may have been replaced before.
            if self.destination().stop.is_cancelled() {
                return;
            }
        }
    }

    /// Receives messages until no more are wanted, and handles all that have arrived by then. Uses a connection of its own: who may
    /// send to these subjects must not delay others by the number of messages, or interrupt them with malformed ones.
    async fn serve(self, main: Connection) {
        metrics::describe();
        // The host waits for it when it stops.
        let _in_flight = self.destination().handler.component().target().track();
        let connection = match main.another(self.subjects.to_string()).await {
            Ok(connection) => connection,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(subject = %self.subjects, error, "messages are not received");
                return;
            }
        };
        while !self.destination().stop.is_cancelled() {
            if let Err(error) = self.receive_all(&connection).await {
                tracing::error!(subject = %self.subjects, %error, "messages are not received; trying again");
            }
            tokio::select! {
                () = tokio::time::sleep(RESTART_DELAY) => {}
                () = self.stopped() => {}
            }
        }
    }

    /// Receives messages until no more are wanted, or the client ends.
    async fn receive_all(&self, connection: &Connection) -> Result<(), Error> {
        let mut messages = connection.subscribe(&self.subjects, &self.group).await?;
        tracing::info!(
            subject = %self.subjects,
            queue_group = &*self.group,
            component = &*self.destination().handler.component().target().id,
            "receiving messages"
        );
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.receive(connection, message),
                    None => return Err(Error::Disconnected),
                },
                () = self.stopped() => break,
            }
        }
        messages.end().await?;
        // Without a server, nobody says which message is the last.
        while connection.status() == Status::Connected
            && let Ok(Some(message)) = tokio::time::timeout(LAST_MESSAGE, messages.next()).await
        {
            self.receive(connection, message);
        }
        Ok(())
    }

    /// Starts to handle a message.
    fn receive(&self, connection: &Connection, mut message: Message) {
        let handling = Handling {
            handler: self.destination().handler,
            held: Arc::clone(&self.held),
        };
        let target = handling.handler.component().target();
        let received = Received::new(&self.subjects, &target.id, &message);
        // Whoever may send to this component need not be allowed to control the server.
        let reply_to = message.reply_to.as_ref();
        let reply_to = reply_to.filter(|subject| !queue::is_reserved_subject(subject));
        let answer = reply_to.map(|subject| {
            let (connection, subject) = (connection.clone(), subject.clone());
            Arc::new(Answer::new(connection, subject))
        });
        arrival::add(&mut message.headers);
        let in_flight = target.track();
        tokio::spawn(async move {
            let span = received.span.clone();
            let failure = handling
                .handle(received.ids, message, answer.clone())
                .instrument(span)
                .await
                .err();
            let unanswered = match (&failure, &answer) {
                (Some(failure), Some(answer)) if !answer.is_sent() => {
                    answer.send_json(failure.json()).await.err()
                }
                _ => None,
            };
            received.end(failure.as_ref(), unanswered);
            drop(in_flight);
        });
    }
}

/// What a message needs to be handled.
struct Handling {
    handler: Arc<MessageHandler>,
    held: Arc<Semaphore>,
}

impl Handling {
    async fn handle(
        &self,
        ids: RequestIds,
        message: Message,
        answer: Option<Arc<Answer>>,
    ) -> Result<(), Failure> {
        if message.has_too_many_headers {
            return Err(Failure::new(
                Code::HeadersTooLarge,
                "the message has more than 100 headers, or more than 64 KiB of them; send less of them, or send it in the body".into(),
            ));
        }
        let size = message.body.len() + OVERHEAD;
        let size = u32::try_from(size >> 10).unwrap_or(u32::MAX);
        let target = self.handler.component().target();
        let Ok(_held) = self.held.try_acquire_many(size) else {
            return Err(Failure::new(
                Code::Overloaded,
                format!(
                    "messages with {} MiB are waiting for component {}, which is its limit; try again shortly",
                    MAX_HELD >> 10,
                    target.id
                ),
            )
            .retry_after(RETRY_AFTER));
        };
        tokio::select! {
            handled = self.handler.handle(ids, message, answer) => handled,
            () = target.host_stopped() => Err(Failure::new(
                Code::Overloaded,
                "the host stopped before the message was handled; send it again".into(),
            )),
        }
    }
}

/// A message that has arrived, for its line in the log, its metrics and its span.
struct Received {
    started: Instant,
    ids: RequestIds,
    subject: String,
    subjects: Pattern,
    component: Arc<str>,
    span: Span,
}

impl Received {
    fn new(subjects: &Pattern, component: &Arc<str>, message: &Message) -> Self {
        let mut ids = RequestIds::new();
        let span = tracing::trace_span!(
            target: telemetry::SPANS,
            "message",
            otel.name = format!("process {subjects}"),
            otel.kind = "consumer",
            otel.status_code = Empty,
            error.type = Empty,
            messaging.system = "nats",
            messaging.operation.name = "process",
            messaging.destination.name = message.subject,
            messaging.message.body.size = message.body.len(),
            request_id = %ids.request,
        );
        if let Some(trace) = telemetry::trace::accept(&span, &queue::http_headers(&message.headers))
        {
            ids.trace = trace;
        }
        Self {
            started: Instant::now(),
            ids,
            subject: message.subject.clone(),
            subjects: subjects.clone(),
            component: Arc::clone(component),
            span,
        }
    }

    /// `unanswered` is why the failure could not be sent.
    fn end(self, failure: Option<&Failure>, unanswered: Option<String>) {
        let duration = self.started.elapsed();
        let error = failure.map(|failure| failure.code.parts().0);
        metrics::record(self.subjects.as_str(), &self.component, error, duration);
        if let Some(error) = error {
            self.span.record("error.type", error);
            self.span.record("otel.status_code", "ERROR");
        }
        tracing::info!(
            messaging.destination.name = self.subject,
            error.type = error,
            unanswered,
            duration_ms = duration.as_secs_f64() * 1e3,
            component = &*self.component,
            request_id = %self.ids.request,
            trace_id = %self.ids.trace,
            "message"
        );
    }
}
