//! The server of an application: the host's own routes, and from a request to the component that its path leads to.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Poll};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ALLOW, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::answer::{json_answer, to_answer};
use super::answer_body::AnswerBody;
use super::body::RequestBody;
use super::routes::HasRoutes;
use crate::error::{Code, Failure};
use crate::http::{Client, Clients, ConnectionLimits, Drained, Listener, MAX_HEADER_BYTES, Permit};
use crate::text::visible;

/// How the server treats its clients.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Connections open at once. Where one more client comes, an idle one is closed; if none is idle, it waits in the system's queue.
    pub max_connections: usize,
    /// Connections of one client; if none of them is idle, one more is closed at once.
    pub max_connections_per_client: usize,
    /// Requests that one client may have under way; the next is answered 429.
    pub max_requests_per_client: usize,
    /// How long a client may take to send its request's headers, or leave a connection idle between two requests.
    pub header_timeout: Duration,
    /// How long requests under way may go on after the stop signal.
    pub shutdown_timeout: Duration,
}

/// When the host received the request, for components that record latency: `t=<seconds since 1970>`.
const REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");
/// The request's id, in the answer and in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A server that is bound to its address but not serving yet.
pub struct Server<A> {
    listener: Listener,
    shared: Arc<Shared<A>>,
}

struct Shared<A> {
    application: Arc<ArcSwap<A>>,
    /// The address that it listens on.
    authority: Authority,
    clients: Arc<Clients>,
    config: ServerConfig,
    /// Requests that are still under way end with the host.
    stopped: AtomicBool,
}

impl<A: HasRoutes> Server<A> {
    /// Binds the address.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub async fn bind(
        address: SocketAddr,
        application: Arc<ArcSwap<A>>,
        config: ServerConfig,
    ) -> anyhow::Result<Self> {
        let listener = Listener::bind(address, "--listen").await?;
        let clients = Clients::new(config.max_requests_per_client);
        let authority = Authority::try_from(listener.address().to_string())
            .context("the address is no authority of a URI")?;
        Ok(Self {
            listener,
            shared: Arc::new(Shared {
                application,
                authority,
                clients,
                config,
                stopped: AtomicBool::new(false),
            }),
        })
    }

    /// The address it is bound to, with the port that was chosen for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Serves until `stop` is cancelled; then takes no more connections, and lets requests under way finish within
    /// `shutdown_timeout`. Returns whether all of them did.
    pub async fn serve(self, stop: CancellationToken) -> bool {
        let Self { listener, shared } = self;
        let limits = ConnectionLimits {
            max_connections: shared.config.max_connections,
            max_connections_per_client: shared.config.max_connections_per_client,
            header_timeout: shared.config.header_timeout,
            shutdown_timeout: shared.config.shutdown_timeout,
        };
        // A future of some kilobytes, which hyper would move around.
        let requests = Arc::clone(&shared);
        let handle = move |request, client| Box::pin(Arc::clone(&requests).serve(request, client));
        let finished = listener.serve(limits, stop, handle).await;
        shared.stopped.store(true, Ordering::Relaxed);
        finished
    }
}

impl<A: HasRoutes> Shared<A> {
    /// One request, from its headers to the headers of its answer. Never fails: a failure is an answer.
    async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: Client,
    ) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        // Before anything can fail: whatever the answer is, the client is to get it.
        let body = Drained::new(body, &parts.headers);
        let request_id = uuid::Uuid::now_v7();
        let line = Line {
            started: Instant::now(),
            request_id,
            method: parts.method.clone(),
            path: visible(parts.uri.path()),
            client: client.address.ip(),
            answered: false,
            stopped: &self.stopped,
        };
        let span = tracing::trace_span!(
            target: telemetry::SPANS,
            "http.server.request",
            otel.kind = "server",
            http.request.method = %parts.method,
            http.response.status_code = Empty,
            url.path = parts.uri.path(),
            url.scheme = "http",
            client.address = %client.address.ip(),
            %request_id,
        );
        let head = parts.method == Method::HEAD;
        let own = own_answer(&parts.method, parts.uri.path());
        let permit = match own {
            Some(_) => None,
            None => self.clients.admit(client.network),
        };
        let (component, result) = match (own, &permit) {
            // Also for a client that is over its share: it may be the one who watches over the host.
            (Some(answer), _) => (None, Ok(answer)),
            (None, Some(_)) => {
                let routed = self.route(request_id, parts, body, &client);
                routed.instrument(span.clone()).await
            }
            (None, None) => (None, Err(self.over_its_share())),
        };
        let mut response = result.unwrap_or_else(|failure| to_answer(&failure));
        if let Ok(id) = HeaderValue::try_from(request_id.to_string()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        span.record("http.response.status_code", response.status().as_u16());
        line.log(response.status(), component.as_deref());
        response.map(|body| Answer {
            body: (!head).then_some(body),
            _permit: permit,
            _span: span,
        })
    }

    /// The answer, and the component that gave it.
    async fn route(
        &self,
        request_id: uuid::Uuid,
        mut parts: Parts,
        body: Drained,
        client: &Client,
    ) -> (Option<Arc<str>>, Result<Response<AnswerBody>, Failure>) {
        if let Err(failure) = prepare(&mut parts, &self.authority) {
            return (None, Err(failure));
        }
        let application = self.application.load_full();
        let handler = match application.routes().route(&mut parts, Some(client)) {
            Ok(handler) => handler,
            Err(failure) => return (None, Err(failure)),
        };
        let id = Arc::clone(handler.id());
        let request = Request::from_parts(parts, RequestBody::new(body));
        let answer = handler
            .handle(request_id, Some(client.network), &client.timer, request)
            .await;
        (Some(id), answer)
    }

    fn over_its_share(&self) -> Failure {
        Failure::new(
            Code::TooManyRequests,
            format!(
                "this client has {} requests under way, which is its share; wait for one of them to be answered",
                self.config.max_requests_per_client
            ),
        )
        .retry_after(Duration::from_secs(1))
    }
}

/// The line that the log has of each request, also of one whose client leaves before its answer.
struct Line<'a> {
    started: Instant,
    request_id: uuid::Uuid,
    method: Method,
    path: String,
    client: IpAddr,
    answered: bool,
    /// Whether the host has stopped.
    stopped: &'a AtomicBool,
}

impl Line<'_> {
    fn log(mut self, status: StatusCode, component: Option<&str>) {
        self.answered = true;
        tracing::info!(
            http.request.method = %self.method,
            url.path = self.path,
            http.response.status_code = status.as_u16(),
            duration_ms = self.milliseconds(),
            client.address = %self.client,
            component,
            request_id = %self.request_id,
            "request"
        );
    }

    fn milliseconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64() * 1e3
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let reason = match self.stopped.load(Ordering::Relaxed) {
                true => "the host stopped before the request was answered",
                false => "the client left before its request was answered",
            };
            tracing::info!(
                http.request.method = %self.method,
                url.path = self.path,
                duration_ms = self.milliseconds(),
                client.address = %self.client,
                request_id = %self.request_id,
                "{reason}"
            );
        }
    }
}

/// `/healthz`: the process is alive. `/readyz`: it takes requests.
fn own_answer(method: &Method, path: &str) -> Option<Response<AnswerBody>> {
    let text = match path {
        "/healthz" => "ok",
        "/readyz" => "ready",
        _ => return None,
    };
    let mut response = json_answer(
        StatusCode::OK,
        serde_json::json!({"status": text}).to_string(),
    );
    if !matches!(*method, Method::GET | Method::HEAD) {
        response = json_answer(
            StatusCode::METHOD_NOT_ALLOWED,
            serde_json::json!({"error": {"code": "method_not_allowed", "message": "use GET"}})
                .to_string(),
        );
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Some(response)
}

/// Makes of a request what a component may see: an absolute URI, and headers that only the host may set.
fn prepare(parts: &mut Parts, own: &Authority) -> Result<(), Failure> {
    let bad = |message: &str| Failure::new(Code::BadRequest, message.to_owned());
    // hyper's own limit is that of its buffer, which takes somewhat more.
    let headers = parts.headers.iter();
    let headers = headers.map(|(name, value)| name.as_str().len() + value.len());
    let target = parts
        .uri
        .path_and_query()
        .map_or(0, |path| path.as_str().len());
    if parts.method.as_str().len() + target + headers.sum::<usize>() > MAX_HEADER_BYTES {
        return Err(Failure::new(
            Code::HeadersTooLarge,
            format!(
                "method, path and headers have more than {} KiB; send less of them, or send it in the body",
                MAX_HEADER_BYTES >> 10
            ),
        ));
    }
    if parts.method == Method::CONNECT {
        return Err(bad("the host is no proxy: CONNECT is not for it"));
    }
    // RFC 9112, section 6.1: hyper takes off the last coding, which is `chunked`, and no other.
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(bad(
            "of the transfer codings, the host knows `chunked` alone; what compresses the body is named in Content-Encoding",
        ));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    // RFC 9112, section 3.2.2: the authority of an absolute-form target goes before the Host header.
    let authority = match (parts.uri.authority(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) => return Err(bad("the request has more than one Host header")),
        (Some(authority), _, _) => authority.clone(),
        (None, Some(host), None) => {
            Authority::try_from(host.as_bytes()).map_err(|_| bad("the Host header is malformed"))?
        }
        // Older clients name no host (RFC 9112, section 3.2).
        (None, None, None) if parts.version <= Version::HTTP_10 => own.clone(),
        (None, None, None) => {
            return Err(bad(
                "the request has no Host header, which HTTP/1.1 asks for",
            ));
        }
    };
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(authority);
    uri.path_and_query
        .get_or_insert_with(|| PathAndQuery::from_static("/"));
    parts.uri =
        Uri::from_parts(uri).map_err(|_| bad("the Host header or the path is malformed"))?;
    if let Some(now) = since_epoch() {
        parts.headers.insert(REQUEST_START, now);
    }
    Ok(())
}

/// The time, as [`REQUEST_START`] has it. None when the clock stands before 1970.
fn since_epoch() -> Option<HeaderValue> {
    let time = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    HeaderValue::try_from(format!("t={}.{:06}", time.as_secs(), time.subsec_micros())).ok()
}

/// An answer's body, which holds the client's permit until it is sent.
struct Answer {
    /// None: the answer to HEAD.
    body: Option<AnswerBody>,
    _permit: Option<Permit>,
    /// It ends with the answer.
    _span: Span,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = <AnswerBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
