//! `wasmcloud:messaging/consumer`: sending messages, and `speech:pipeline/message`: the message that a component is handling. Every
//! component may answer that; other subjects need a grant.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use manifest::{Component, Limits, Manifest, Section};
use queue::{Connection, Error, Message, Pattern};
use tracing::{Instrument as _, Span};
use wasmtime::component::{HasData, Linker};

use super::bindings::speech::pipeline::message as wit;
use super::bindings::wasmcloud::messaging::consumer;
use super::bindings::wasmcloud::messaging::types::{self, BrokerMessage};
use super::capability::{self, Capability};
use super::resources::Resources;
use crate::invocation::{Output, ParentSpan};
use crate::subject::Subjects;

/// The field `messaging = ["orders.>"]`.
const FIELD: &str = "messaging";

/// The host's connection to NATS, if it has one.
pub struct Messaging(Option<Connection>);

/// The subjects that a component may send to.
pub(crate) type Granted = Arc<[Pattern]>;

/// What an instance may send, and the message that it is handling.
pub(crate) struct State {
    connection: Option<Connection>,
    granted: Option<Granted>,
    timeout: Duration,
    span: ParentSpan,
    /// Of the invocation. `None` before the first one.
    output: Option<Arc<Output>>,
    handled: Handled,
}

/// The message that a component is handling.
#[derive(Default)]
pub(crate) struct Handled {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) answer: Option<Arc<Answer>>,
}

/// The answer to a message, which is sent once.
pub(crate) struct Answer {
    connection: Connection,
    subject: String,
    is_sent: AtomicBool,
}

impl Answer {
    /// Creates the answer to a message whose sender waits for it on `subject`.
    pub(crate) fn new(connection: Connection, subject: String) -> Self {
        Self {
            connection,
            subject,
            is_sent: AtomicBool::new(false),
        }
    }

    /// Returns whether it was sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.is_sent.load(Ordering::Relaxed)
    }

    /// Sends it.
    ///
    /// # Errors
    /// When it was sent before, or cannot be sent.
    pub(crate) async fn send(&self, message: Message, headers: &HeaderMap) -> Result<(), String> {
        if self.is_sent.swap(true, Ordering::Relaxed) {
            return Err("the message was answered before; it gets one answer".into());
        }
        let sent = self.connection.publish(message, headers).await;
        sent.map_err(|error| {
            // Another one may fit.
            let is_sent = !matches!(error, Error::TooLarge { .. });
            self.is_sent.store(is_sent, Ordering::Relaxed);
            error.to_string()
        })
    }

    /// Sends a JSON body.
    ///
    /// # Errors
    /// When it was sent before, or cannot be sent.
    pub(crate) async fn send_json(&self, body: String) -> Result<(), String> {
        let message = Message::new(self.subject.clone(), body.into());
        self.send(message, &HeaderMap::new()).await
    }
}

/// Tells the linker which part of an instance the interfaces work on.
struct Access;

impl HasData for Access {
    type Data<'a> = &'a mut State;
}

impl Capability for Messaging {
    const OPEN: &'static [&'static str] = &[
        "wasmcloud:messaging/consumer",
        "wasmcloud:messaging/types",
        "speech:pipeline/message",
    ];
    const HOW_TO_GRANT: &'static str = "name the subjects in `messaging` under [component.ID.tool.whisper-host], or deploy it with --messaging";
    type Grant = Granted;
    type State = State;

    fn new(resources: &Resources) -> anyhow::Result<Self> {
        Ok(Self(resources.queue.clone()))
    }

    fn section() -> Option<Section> {
        Some(Section::of::<Vec<Subjects>>(FIELD))
    }

    fn link<T: capability::Access<Self>>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
        types::add_to_linker::<_, Access>(linker, |instance| instance.access().0)?;
        consumer::add_to_linker::<_, Access>(linker, |instance| instance.access().0)?;
        wit::add_to_linker::<_, Access>(linker, |instance| instance.access().0)
    }

    fn is_granted(component: &Component) -> bool {
        component.tool.whisper_host.grants.contains_key(FIELD)
    }

    fn grant(&self, _: &Manifest, component: &Component) -> anyhow::Result<Option<Granted>> {
        let Some(field) = component.tool.whisper_host.grants.get(FIELD) else {
            return Ok(None);
        };
        let subjects: Vec<Subjects> = field.clone().try_into()?;
        let subjects = subjects.into_iter().map(|Subjects(pattern)| pattern);
        Ok(Some(subjects.collect()))
    }

    fn describe(grant: &Granted) -> String {
        let subjects: Vec<&str> = grant.iter().map(Pattern::as_str).collect();
        format!("messages to {}", subjects.join(", "))
    }

    fn state(&self, grant: Option<&Granted>, limits: &Limits) -> State {
        State {
            connection: self.0.clone(),
            granted: grant.cloned(),
            // Shorter than the component's own limit, so that it can handle the timeout.
            timeout: limits.outbound_timeout.min(limits.timeout / 10 * 9),
            span: ParentSpan::default(),
            output: None,
            handled: Handled::default(),
        }
    }

    fn begin(state: &mut State, span: &ParentSpan, output: &Arc<Output>) {
        state.span = span.clone();
        state.output = Some(Arc::clone(output));
        state.handled = Handled::default();
    }
}

impl State {
    /// Sets the message that the component handles from now on.
    pub(crate) fn handle(&mut self, handled: Handled) {
        self.handled = handled;
    }

    /// Returns whether a subject is the one for the answer to the message that the component handles.
    fn is_own_answer(&self, subject: &str) -> bool {
        let answer = self.handled.answer.as_ref();
        answer.is_some_and(|answer| answer.subject == subject)
    }

    /// Returns the connection, if the component may send to the subject.
    fn connection(&self, subject: &str) -> Result<&Connection, String> {
        let mut granted = self.granted.iter().flat_map(|granted| granted.iter());
        if !granted.any(|pattern| pattern.matches(subject)) {
            if let Some(output) = &self.output {
                let message = "denied a message: its subject is not granted";
                output.warn(message, None, Some(subject));
            }
            return Err(format!(
                "this component may not send to \"{subject}\": {}",
                Messaging::HOW_TO_GRANT
            ));
        }
        self.connection.as_ref().ok_or_else(|| {
            "this host is not connected to NATS: start it with --nats nats://HOST:4222".into()
        })
    }

    /// Returns a span of an operation on a subject.
    fn span(&self, operation: &'static str, kind: &'static str, subject: &str) -> Span {
        let parent = self.span.get();
        if parent.is_disabled() {
            return parent;
        }
        tracing::trace_span!(
            target: telemetry::SPANS,
            parent: &parent,
            "message",
            otel.name = format!("{operation} {subject}"),
            otel.kind = kind,
            messaging.system = "nats",
            messaging.operation.name = operation,
            messaging.destination.name = subject,
        )
    }
}

/// Returns the headers of a message, which carry the trace.
fn headers(span: &Span) -> HeaderMap {
    let mut headers = HeaderMap::new();
    telemetry::trace::inject(span, &mut headers);
    headers
}

impl types::Host for &mut State {}

impl wit::Host for &mut State {
    async fn headers(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.handled.headers.clone())
    }
}

impl consumer::Host for &mut State {
    async fn request(
        &mut self,
        subject: String,
        body: Vec<u8>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<BrokerMessage, String>> {
        let connection = match self.connection(&subject) {
            Ok(connection) => connection,
            Err(error) => return Ok(Err(error)),
        };
        let timeout = Duration::from_millis(timeout_ms.into()).min(self.timeout);
        let span = self.span("request", "client", &subject);
        let headers = headers(&span);
        let answer = connection.request(&subject, &headers, body.into(), timeout);
        Ok(match answer.instrument(span).await {
            Ok(answer) => Ok(BrokerMessage {
                subject: answer.subject,
                body: answer.body.into(),
                reply_to: answer.reply_to,
            }),
            Err(error) => Err(error.to_string()),
        })
    }

    async fn publish(&mut self, message: BrokerMessage) -> wasmtime::Result<Result<(), String>> {
        let span = self.span("publish", "producer", &message.subject);
        let headers = headers(&span);
        let message = Message {
            reply_to: message.reply_to,
            ..Message::new(message.subject, message.body.into())
        };
        // Whoever receives the message sends to this subject, with its own rights.
        if let Some(reply_to) = &message.reply_to
            && !self.is_own_answer(reply_to)
            && let Err(error) = self.connection(reply_to)
        {
            return Ok(Err(error));
        }
        if let Some(answer) = &self.handled.answer
            && answer.subject == message.subject
        {
            return Ok(answer.send(message, &headers).instrument(span).await);
        }
        let connection = match self.connection(&message.subject) {
            Ok(connection) => connection,
            Err(error) => return Ok(Err(error)),
        };
        let sent = connection.publish(message, &headers).instrument(span).await;
        Ok(sent.map_err(|error| error.to_string()))
    }
}
