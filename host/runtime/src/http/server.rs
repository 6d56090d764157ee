//! The server: connections, the host's own routes, errors as JSON, and the drain at the end.
//!
//! Every connection and request is bounded: in number, in the size of its headers, and in how long a client may take to
//! send them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use super::clients::{Clients, Place};
use crate::application::Application;
use crate::engine::body::{AnswerBody, RequestBody};
use crate::error::{Code, Failure};

/// How the server treats its clients.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Connections open at once; the next client waits in the system's queue until one closes.
    pub max_connections: usize,
    /// Requests that one client address may have under way; the next is answered 429.
    pub max_requests_per_client: usize,
    /// How long a client may take to send its request's headers, or leave a connection idle between two requests.
    pub header_timeout: Duration,
    /// How long requests under way may go on after the stop signal.
    pub shutdown_timeout: Duration,
}

/// Bytes of a request's headers, all together. More is answered 431.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Number of a request's headers. More is answered 431.
const MAX_HEADERS: usize = 128;
/// A client that takes nothing of its answer for this long is cut off: it would hold its request's places for ever.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// When the host received the request, for components that record latency: `t=<seconds since 1970>`.
const REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");
/// The request's id, in the answer and in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A server that is bound to its address but not serving yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    application: Arc<ArcSwap<Application>>,
    clients: Arc<Clients>,
    config: ServerConfig,
    draining: AtomicBool,
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub async fn bind(
        address: SocketAddr,
        application: Arc<ArcSwap<Application>>,
        config: ServerConfig,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}; choose another address with --listen")
        })?;
        let address = listener
            .local_addr()
            .context("the listening socket has no address")?;
        let clients = Clients::new(config.max_requests_per_client);
        Ok(Self {
            listener,
            address,
            shared: Arc::new(Shared {
                application,
                clients,
                config,
                draining: AtomicBool::new(false),
            }),
        })
    }

    /// The address it is bound to, with the port that was chosen for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled; then takes no more connections, and lets requests under way finish within
    /// `shutdown_timeout`. Answers whether all of them did.
    pub async fn serve(self, stop: CancellationToken) -> bool {
        let Self {
            listener, shared, ..
        } = self;
        let connections = Arc::new(Semaphore::new(shared.config.max_connections));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&listener, &connections) => accepted,
            };
            match accepted {
                Ok((stream, client, permit)) => {
                    let connection = graceful.watch(shared.connection(stream, client));
                    tokio::spawn(async move {
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, %client, "connection ended");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to be freed rather than spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        shared.draining.store(true, Ordering::Relaxed);
        tokio::time::timeout(shared.config.shutdown_timeout, graceful.shutdown())
            .await
            .is_ok()
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> std::io::Result<(
    TcpStream,
    SocketAddr,
    Option<tokio::sync::OwnedSemaphorePermit>,
)> {
    // Nobody closes the semaphore, so there always is a permit in the end.
    let permit = Arc::clone(connections).acquire_owned().await.ok();
    let (stream, client) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, client, permit))
}

impl Shared {
    /// Serves one connection until it closes.
    fn connection(
        self: &Arc<Self>,
        stream: TcpStream,
        client: SocketAddr,
    ) -> impl GracefulConnection<Error = hyper::Error> + Send + 'static {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let shared = Arc::clone(self);
        let service = service_fn(move |request| Arc::clone(&shared).serve(request, client));
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.config.header_timeout)
            .max_buf_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
    }

    /// One request, from its headers to the headers of its answer. Never fails: a failure is an answer.
    async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: SocketAddr,
    ) -> Result<Response<Answer>, Infallible> {
        let started = Instant::now();
        let request_id = uuid::Uuid::now_v7();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let head = method == Method::HEAD;
        let place = self.clients.admit(client.ip());
        let (component, result) = match &place {
            Some(_) => self.route(request_id, request).await,
            None => (None, Err(self.over_its_share())),
        };
        let mut response = result.unwrap_or_else(|failure| answer(&failure));
        if let Ok(id) = HeaderValue::try_from(request_id.to_string()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        tracing::info!(
            http.request.method = %method,
            url.path = path,
            http.response.status_code = response.status().as_u16(),
            duration_ms = started.elapsed().as_secs_f64() * 1e3,
            client.address = %client.ip(),
            component,
            request_id = %request_id,
            "request"
        );
        Ok(response.map(|body| Answer {
            body: (!head).then_some(body),
            _place: place,
        }))
    }

    /// The answer, and the component that gave it.
    async fn route(
        &self,
        request_id: uuid::Uuid,
        request: Request<Incoming>,
    ) -> (Option<String>, Result<Response<AnswerBody>, Failure>) {
        if let Some(answer) = self.own_routes(&request) {
            return (None, Ok(answer));
        }
        let request = match prepare(request) {
            Ok(request) => request,
            Err(failure) => return (None, Err(failure)),
        };
        let application = self.application.load_full();
        let Some(component) = application.find(request.uri().path()) else {
            let failure = Failure::new(
                Code::NotFound,
                format!(
                    "no route matches {}; the routes are: {}",
                    request.uri().path(),
                    application.routes().join(", ")
                ),
            );
            return (None, Err(failure));
        };
        let id = component.settings.id.to_string();
        (Some(id), component.handle(request_id, request).await)
    }

    /// `/healthz`: the process is alive. `/readyz`: it takes requests.
    fn own_routes(&self, request: &Request<Incoming>) -> Option<Response<AnswerBody>> {
        let draining = self.draining.load(Ordering::Relaxed);
        let (status, text) = match request.uri().path() {
            "/healthz" => (StatusCode::OK, "ok"),
            "/readyz" if draining => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            "/readyz" => (StatusCode::OK, "ready"),
            _ => return None,
        };
        let mut response = json(status, serde_json::json!({"status": text}).to_string());
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            response = json(
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

/// Makes of a request what a component may see: an absolute URI, and headers that only the host may set.
fn prepare(request: Request<Incoming>) -> Result<Request<RequestBody>, Failure> {
    let bad = |message: &str| Failure::new(Code::BadRequest, message.to_owned());
    let (mut parts, body) = request.into_parts();
    let host = parts
        .headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .map(str::to_owned)
        .or_else(|| parts.uri.authority().map(ToString::to_string))
        .ok_or_else(|| bad("the request has no Host header; send HTTP/1.1 with one"))?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = Uri::builder()
        .scheme("http")
        .authority(host)
        .path_and_query(path)
        .build()
        .map_err(|_| bad("the Host header or the path is malformed"))?;
    if let Ok(since_epoch) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)
        && let Ok(value) = HeaderValue::try_from(format!("t={:.6}", since_epoch.as_secs_f64()))
    {
        parts.headers.insert(REQUEST_START, value);
    }
    Ok(Request::from_parts(parts, RequestBody::new(body)))
}

/// A failure as an answer.
fn answer(failure: &Failure) -> Response<AnswerBody> {
    let mut response = json(failure.code.parts().1, failure.json());
    if let Some(after) = failure.retry_after {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}

fn json(status: StatusCode, text: String) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::host(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer's body, which holds the client's place until it is sent.
struct Answer {
    /// None: the answer to HEAD.
    body: Option<AnswerBody>,
    _place: Option<Place>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = <AnswerBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
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
