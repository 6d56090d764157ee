//! The HTTP server of an application: the host's own paths, and routing of requests to components.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use metrics::Gauge;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::body::RequestBody;
use super::metrics::{CLIENT_LEFT, Metrics, RequestDurations, known};
use super::response::{json_response, method_not_allowed, to_response};
use super::response_body::ResponseBody;
use super::routes::HasRoutes;
use crate::error::{Code, Failure};
use crate::http::{
    Client, Clients, ConnectionLimits, Drained, Listener, MAX_HEADER_BYTES, Permit, REQUEST_ID,
};
use crate::invocation::{Caller, RequestIds};
use crate::role::Role;
use crate::text::escape_controls;
use crate::triggers::arrival;

/// Limits of the server, and what `/readyz` reports.
#[derive(Clone)]
pub struct ServerConfig {
    /// Which part of the work the host does. A worker handles no requests.
    pub role: Role,
    /// The connection to NATS, if there is one.
    pub queue: Option<queue::Connection>,
    /// Open connections. At the limit, an idle one is closed for a new one; if none is idle, the new one waits in the system's
    /// queue.
    pub max_connections: usize,
    /// Open connections of one client. At the limit, if none of them is idle, a new one is closed at once.
    pub max_connections_per_client: usize,
    /// Requests that one client may have in flight; further ones get 429.
    pub max_requests_per_client: usize,
    /// How long a client may take to send a request's headers, or leave a connection idle between two requests.
    pub header_timeout: Duration,
    /// How long requests in flight may go on after the stop signal.
    pub shutdown_timeout: Duration,
}

const REQUEST_START: HeaderName = HeaderName::from_static(arrival::HEADER);

/// Maximum length of a path in a span, in bytes: clients choose it.
const MAX_PATH: usize = 1000;

/// A server that is bound but not serving yet.
pub struct Server<A> {
    listener: Listener,
    shared: Arc<Shared<A>>,
}

struct Shared<A> {
    application: Arc<ArcSwap<A>>,
    /// The address it listens on.
    authority: Authority,
    clients: Arc<Clients>,
    config: ServerConfig,
    metrics: Metrics,
    /// Whether the host has stopped waiting for requests in flight.
    stopped: AtomicBool,
}

impl<A: HasRoutes> Server<A> {
    /// Binds the address.
    ///
    /// # Errors
    /// When the address is in use or does not belong to this machine.
    pub async fn bind(
        address: SocketAddr,
        application: Arc<ArcSwap<A>>,
        config: ServerConfig,
    ) -> anyhow::Result<Self> {
        let listener = Listener::bind(address, "--listen").await?;
        let clients = Clients::new(config.max_requests_per_client);
        let authority = Authority::try_from(listener.address().to_string())
            .context("the address is not a URI authority")?;
        Ok(Self {
            listener,
            shared: Arc::new(Shared {
                application,
                authority,
                clients,
                config,
                metrics: Metrics::new(),
                stopped: AtomicBool::new(false),
            }),
        })
    }

    /// Returns the bound address, with the actual port if 0 was requested.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Serves until `stop` is cancelled; then accepts no more connections, and lets requests in flight finish within
    /// `shutdown_timeout`. Returns whether all of them did.
    pub async fn serve(self, stop: CancellationToken) -> bool {
        let Self { listener, shared } = self;
        let limits = ConnectionLimits {
            max_connections: shared.config.max_connections,
            max_connections_per_client: shared.config.max_connections_per_client,
            header_timeout: shared.config.header_timeout,
            shutdown_timeout: shared.config.shutdown_timeout,
        };
        // Boxed, as the future has some kilobytes, which hyper would move around.
        let requests = Arc::clone(&shared);
        let handle = move |request, client| Box::pin(Arc::clone(&requests).serve(request, client));
        let finished = listener.serve(limits, stop, handle).await;
        shared.stopped.store(true, Ordering::Relaxed);
        finished
    }
}

impl<A: HasRoutes> Shared<A> {
    /// Handles one request. Failures become responses.
    async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: Client,
    ) -> Response<ServerBody> {
        let (parts, body) = request.into_parts();
        // First, so that the client gets the response, whatever it is.
        let body = Drained::new(body, &parts.headers);
        let mut ids = RequestIds::new();
        let path = parts.uri.path();
        let health = health_response(&parts.method, path, &self.config);
        let span = match health {
            // Asked every few seconds.
            Some(_) => Span::none(),
            None => tracing::trace_span!(
                target: telemetry::SPANS,
                "http.server.request",
                otel.kind = "server",
                otel.status_code = Empty,
                error.type = Empty,
                http.request.method = known(&parts.method),
                http.response.status_code = Empty,
                http.route = Empty,
                url.path = &path[..path.floor_char_boundary(MAX_PATH)],
                url.scheme = "http",
                client.address = %client.address.ip(),
                request_id = %ids.request,
            ),
        };
        if let Some(trace) = telemetry::trace::accept(&span, &parts.headers) {
            ids.trace = trace;
        }
        let mut log = RequestLog {
            started: Instant::now(),
            ids,
            method: parts.method.clone(),
            path: escape_controls(parts.uri.path()),
            client: client.address.ip(),
            durations: Arc::clone(&self.metrics.unmatched),
            logged: false,
            span: span.clone(),
            stopped: &self.stopped,
            active: &self.metrics.active,
        };
        log.active.increment(1.0);
        let head = parts.method == Method::HEAD;
        let permit = match health {
            Some(_) => None,
            None => self.clients.admit(client.network),
        };
        let result = match (health, &permit) {
            // Also for a client at its limit: it may be the monitoring.
            (Some(response), _) => Ok(response),
            (None, Some(_)) => {
                let response = self.route(&mut log, parts, body, &client);
                response.instrument(span.clone()).await
            }
            (None, None) => Err(self.too_many_requests()),
        };
        let mut response = result.unwrap_or_else(|failure| to_response(&failure));
        if let Ok(id) = HeaderValue::try_from(ids.request.to_string()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        log.write(response.status());
        response.map(|body| ServerBody {
            body: (!head).then_some(body),
            _permit: permit,
            span,
        })
    }

    /// Routes a request, which `log` is told, and returns the response.
    async fn route(
        &self,
        log: &mut RequestLog<'_>,
        mut parts: Parts,
        body: Drained,
        client: &Client,
    ) -> Result<Response<ResponseBody>, Failure> {
        if self.config.role == Role::Worker {
            return Err(Failure::new(
                Code::NotFound,
                "this host is a worker, which handles no requests: send them to a host with another --role".into(),
            ));
        }
        prepare(&mut parts, &self.authority)?;
        let application = self.application.load_full();
        let (durations, handler) = application.routes().route(&mut parts, Some(client))?;
        log.durations = Arc::clone(durations);
        let request = Request::from_parts(parts, RequestBody::new(body));
        let caller = Caller::Client(client.network);
        handler.handle(log.ids, caller, request).await
    }

    fn too_many_requests(&self) -> Failure {
        Failure::new(
            Code::TooManyRequests,
            format!(
                "this client has {} requests in flight, which is its limit; wait for one of them to finish",
                self.config.max_requests_per_client
            ),
        )
        .retry_after(Duration::from_secs(1))
    }
}

/// Logs a request and records its metrics, even if the client disconnects before the response.
struct RequestLog<'a> {
    started: Instant,
    ids: RequestIds,
    method: Method,
    path: String,
    client: IpAddr,
    durations: Arc<RequestDurations>,
    logged: bool,
    span: Span,
    /// Whether the host has stopped waiting for requests in flight.
    stopped: &'a AtomicBool,
    active: &'a Gauge,
}

impl RequestLog<'_> {
    fn write(mut self, status: StatusCode) {
        self.logged = true;
        let duration = self.started.elapsed();
        self.durations.record(&self.method, Some(status), duration);
        self.describe(Some(status));
        tracing::info!(
            http.request.method = %self.method,
            url.path = self.path,
            http.response.status_code = status.as_u16(),
            duration_ms = duration.as_secs_f64() * 1e3,
            client.address = %self.client,
            component = self.component(),
            request_id = %self.ids.request,
            trace_id = %self.ids.trace,
            "request"
        );
    }

    fn component(&self) -> Option<&str> {
        self.durations.route().map(|route| &*route.component)
    }

    /// Completes the span of the request. `status` is `None` if there was no response.
    fn describe(&self, status: Option<StatusCode>) {
        let span = &self.span;
        if span.is_disabled() {
            return;
        }
        let method = known(&self.method);
        let name = match self.durations.route() {
            Some(route) => {
                span.record("http.route", &*route.path);
                format!("{method} {}", route.path)
            }
            None => method.to_owned(),
        };
        telemetry::trace::set_name(span, name);
        match status {
            Some(status) => {
                span.record("http.response.status_code", status.as_u16());
            }
            None => {
                span.record("error.type", CLIENT_LEFT);
            }
        }
        if status.is_none_or(|status| status.is_server_error()) {
            span.record("otel.status_code", "ERROR");
        }
    }
}

impl Drop for RequestLog<'_> {
    fn drop(&mut self) {
        self.active.decrement(1.0);
        if !self.logged {
            let duration = self.started.elapsed();
            self.durations.record(&self.method, None, duration);
            self.describe(None);
            let reason = match self.stopped.load(Ordering::Relaxed) {
                true => "the host stopped before the request was answered",
                false => "the client left before its request was answered",
            };
            tracing::info!(
                http.request.method = %self.method,
                url.path = self.path,
                duration_ms = duration.as_secs_f64() * 1e3,
                client.address = %self.client,
                component = self.component(),
                request_id = %self.ids.request,
                trace_id = %self.ids.trace,
                "{reason}"
            );
        }
    }
}

/// Returns the host's own response: `/healthz` says that the process is alive, `/readyz` that it does its part of the work. Without a
/// connection to NATS, a host that does all of it still accepts requests.
fn health_response(
    method: &Method,
    path: &str,
    config: &ServerConfig,
) -> Option<Response<ResponseBody>> {
    let (status, text) = match path {
        "/healthz" => (StatusCode::OK, serde_json::json!({"status": "ok"})),
        "/readyz" => match config.queue.as_ref().map(queue::Connection::status) {
            None => (StatusCode::OK, serde_json::json!({"status": "ready"})),
            Some(queue::Status::Connected) => (
                StatusCode::OK,
                serde_json::json!({"status": "ready", "nats": "connected"}),
            ),
            // It handles what it can without NATS.
            Some(queue::Status::Connecting) if config.role == Role::All => (
                StatusCode::OK,
                serde_json::json!({"status": "ready", "nats": "connecting"}),
            ),
            Some(queue::Status::Connecting) => (
                StatusCode::SERVICE_UNAVAILABLE,
                serde_json::json!({"status": "not ready", "nats": "connecting"}),
            ),
        },
        _ => return None,
    };
    Some(match *method {
        Method::GET | Method::HEAD => json_response(status, text.to_string()),
        _ => method_not_allowed("use GET", "GET, HEAD"),
    })
}

/// Prepares a request for components: makes its URI absolute, and sets the headers that only the host may set.
fn prepare(parts: &mut Parts, own: &Authority) -> Result<(), Failure> {
    let bad_request = |message: &str| Failure::new(Code::BadRequest, message.to_owned());
    // hyper's own limit is the size of its buffer, which is somewhat larger.
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
        return Err(bad_request(
            "the host is not a proxy: CONNECT is not supported",
        ));
    }
    // RFC 9112, section 6.1: hyper decodes the last coding, which is `chunked`, and no other.
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(bad_request(
            "the only supported transfer coding is `chunked`; use Content-Encoding for a compressed body",
        ));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    // RFC 9112, section 3.2.2: the authority of an absolute-form target takes precedence over the Host header.
    let authority = match (parts.uri.authority(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) => return Err(bad_request("the request has more than one Host header")),
        (Some(authority), _, _) => authority.clone(),
        (None, Some(host), None) => Authority::try_from(host.as_bytes())
            .map_err(|_| bad_request("the Host header is malformed"))?,
        // Older clients send no Host header (RFC 9112, section 3.2).
        (None, None, None) if parts.version <= Version::HTTP_10 => own.clone(),
        (None, None, None) => {
            return Err(bad_request(
                "the request has no Host header, which HTTP/1.1 requires",
            ));
        }
    };
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(authority);
    uri.path_and_query
        .get_or_insert_with(|| PathAndQuery::from_static("/"));
    parts.uri = Uri::from_parts(uri)
        .map_err(|_| bad_request("the Host header or the path is malformed"))?;
    if let Some(now) = arrival::now().and_then(|now| HeaderValue::try_from(now).ok()) {
        parts.headers.insert(REQUEST_START, now);
    }
    Ok(())
}

/// A response's body, which holds the client's permit until it is sent.
struct ServerBody {
    /// `None` for HEAD.
    body: Option<ResponseBody>,
    _permit: Option<Permit>,
    span: Span,
}

impl Drop for ServerBody {
    fn drop(&mut self) {
        // An exported span ends at the last exit: not with the response's head, but with its body.
        self.span.in_scope(|| ());
    }
}

impl Body for ServerBody {
    type Data = Bytes;
    type Error = <ResponseBody as Body>::Error;

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
