//! Outbound HTTP: the client of `wasi:http`, for servers in `allowed_outbound_hosts` only.
//!
//! Every component may import the interface, because most toolchains import it whether or not it is used; requests that are not
//! allowed are denied at the call. Redirects are ordinary responses: a component that follows one sends another request, which is
//! checked again. Connections are pooled per component, so that none uses a connection to an address that only another may reach.

mod allowed;
mod networks;

use std::collections::{HashMap, HashSet};
use std::error::Error as _;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use http::uri::{Authority, Scheme};
use http::{HeaderName, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument as _;
use tracing::field::Empty;
use wasmtime::component::Linker;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx,
    WasiHttpHooks,
};

use super::capability::{Access, Capability};
use super::resources::Resources;
use super::variables::Variables;
use crate::invocation::{Output, ParentSpan};
use manifest::{Component, Limits, Manifest};

use allowed::AllowedHost;
use networks::{NoAddress, NotPublic, Resolver};

type Pool = Client<HttpsConnector<HttpConnector<Resolver>>, WasiBody>;

/// The capability of outbound requests.
pub struct OutboundHttp {
    tls: rustls::ClientConfig,
    variables: Variables,
}

/// The servers that one component may reach, and its connections to them.
pub(crate) struct Servers {
    allowed: Vec<AllowedHost>,
    tls: rustls::ClientConfig,
    pools: Mutex<Pools>,
    lookups: Arc<Semaphore>,
}

/// Maximum number of look-ups of names at once. Each occupies one of the 512 threads that the host has for blocking work.
const MAX_LOOKUPS: usize = 16;

/// The connections of one component.
#[derive(Default)]
struct Pools {
    /// By the networks that a request may reach in addition to public ones: an entry grants them to its scheme and port only.
    by_networks: HashMap<Vec<IpNet>, Pool>,
    /// The servers that they may have idle connections to.
    servers: HashSet<(Scheme, Authority)>,
}

/// Number of servers with idle connections. At the next one, all idle connections are closed: a component that reaches any number of
/// servers must not use up the file descriptors of the host.
const MAX_SERVERS: usize = 32;

/// State of `wasi:http` for one instance.
pub(crate) struct State {
    pub(crate) hooks: Hooks,
    pub(crate) context: WasiHttpCtx,
}

/// Handles the outbound requests of one instance.
pub(crate) struct Hooks {
    servers: Option<Arc<Servers>>,
    /// One permit per request in flight.
    permits: Arc<Semaphore>,
    timeout: Duration,
    /// Bytes that may be buffered for the outgoing bodies of one invocation.
    buffer_limit: u64,
    /// Bytes of `buffer_limit` that are not assigned to a body yet.
    buffer_left: u64,
    span: ParentSpan,
    /// Set by [`Capability::begin`].
    output: Option<Arc<Output>>,
}

fn add_authorities(roots: &mut RootCertStore, file: &Path) -> anyhow::Result<()> {
    let mut count = 0;
    for certificate in CertificateDer::pem_file_iter(file)? {
        roots.add(certificate?)?;
        count += 1;
    }
    anyhow::ensure!(count > 0, "it has no certificate in PEM form");
    Ok(())
}

/// Creates a pool of connections to public addresses and to granted networks.
fn pool(tls: &rustls::ClientConfig, granted: &[IpNet], lookups: &Arc<Semaphore>) -> Pool {
    /// Idle connections kept per server.
    const IDLE_PER_HOST: usize = 32;
    /// Bytes of a response, including its headers, that are read ahead: they count towards what an instance may hold.
    const READ_BUFFER: usize = 64 << 10;
    let granted = granted.into();
    let lookups = Arc::clone(lookups);
    let mut connector = HttpConnector::new_with_resolver(Resolver { lookups, granted });
    connector.enforce_http(false);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls.clone())
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(connector);
    Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .pool_timer(TokioTimer::new())
        .http1_max_buf_size(READ_BUFFER)
        .build(connector)
}

impl Capability for OutboundHttp {
    const OPEN: &'static [&'static str] = &["wasi:http/outgoing-handler", "wasi:http/client"];
    const HOW_TO_GRANT: &'static str = "name the server in `allowed_outbound_hosts`";
    type Grant = Arc<Servers>;
    type State = State;

    /// Servers are verified by the certificate authorities of Mozilla's list and those that the host was given.
    fn new(resources: &Resources) -> anyhow::Result<Self> {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        for file in &resources.outbound_authorities {
            add_authorities(&mut roots, file).with_context(|| {
                format!(
                    "cannot use the certificate authorities in {}",
                    file.display()
                )
            })?;
        }
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS for outbound requests")?
        .with_root_certificates(roots)
        .with_no_client_auth();
        let variables = Variables::new(resources)?;
        Ok(Self { tls, variables })
    }

    fn link<T: Access<Self>>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
        wasmtime_wasi_http::p3::add_to_linker(linker)
    }

    fn is_granted(component: &Component) -> bool {
        !component.allowed_outbound_hosts.is_empty()
    }

    fn grant(
        &self,
        manifest: &Manifest,
        component: &Component,
    ) -> anyhow::Result<Option<Self::Grant>> {
        let allowed = component
            .allowed_outbound_hosts
            .iter()
            .map(|entry| {
                let text = self.variables.resolve(manifest, entry)?;
                AllowedHost::parse(&text, &entry.to_string())
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        if allowed.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Servers {
            allowed,
            tls: self.tls.clone(),
            pools: Mutex::default(),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        })))
    }

    fn describe(grant: &Self::Grant) -> String {
        let hosts: Vec<String> = grant.allowed.iter().map(ToString::to_string).collect();
        format!("outbound HTTP to {}", hosts.join(", "))
    }

    fn state(&self, grant: Option<&Self::Grant>, limits: &Limits) -> State {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(MAX_FIELDS_SIZE);
        let hooks = Hooks {
            servers: grant.cloned(),
            permits: Arc::new(Semaphore::new(
                limits.outbound_concurrency.min(Semaphore::MAX_PERMITS),
            )),
            // Shorter than the component's own limit, so that it can handle the timeout.
            timeout: limits.outbound_timeout.min(limits.timeout / 10 * 9),
            buffer_limit: limits.memory.as_u64() / 4,
            buffer_left: 0,
            span: ParentSpan::default(),
            output: None,
        };
        State { hooks, context }
    }

    fn begin(state: &mut State, span: &ParentSpan, output: &Arc<Output>) {
        state.hooks.span = span.clone();
        state.hooks.output = Some(Arc::clone(output));
        state.hooks.buffer_left = state.hooks.buffer_limit;
    }
}

/// When the instance ends, its requests that wait for a permit must not get one that its other requests release.
impl Drop for Hooks {
    fn drop(&mut self) {
        self.permits.close();
    }
}

impl Servers {
    /// Returns whether a request may be sent to this address.
    pub(crate) fn allows(&self, uri: &Uri) -> bool {
        self.allowed.iter().any(|allowed| allowed.matches(uri)) && is_target(uri)
    }

    /// Sends a request of the host itself, on behalf of the component, to an address that is [allowed](Self::allows). Returns the
    /// status of the answer.
    ///
    /// # Errors
    /// When there is none within `timeout`.
    pub(crate) async fn send(
        &self,
        request: http::Request<String>,
        timeout: Duration,
    ) -> anyhow::Result<StatusCode> {
        let pool = self.pool_for(request.uri());
        let request = request.map(|body| {
            let body = Full::from(body).map_err(|never| match never {});
            WasiBody::new(body)
        });
        let sent = tokio::time::timeout(timeout, pool.request(request)).await;
        let response = sent.with_context(|| {
            format!("no answer after {}", humantime::format_duration(timeout))
        })??;
        Ok(response.status())
    }

    /// Returns the pool for requests to this address.
    fn pool_for(&self, uri: &Uri) -> Pool {
        let networks = self.allowed.iter().filter_map(|a| a.network(uri));
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let server = uri.scheme().cloned().zip(uri.authority().cloned());
        if pools.servers.len() == MAX_SERVERS
            && server
                .as_ref()
                .is_some_and(|server| !pools.servers.contains(server))
        {
            *pools = Pools::default();
        }
        pools.servers.extend(server);
        let pool = pools
            .by_networks
            .entry(networks.collect())
            .or_insert_with_key(|granted| pool(&self.tls, granted, &self.lookups));
        pool.clone()
    }
}

/// Returns whether a request to this address would go to the server that it names. The pool would keep separate connections for each
/// name and password, and a target like `http://other.example/` in place of a path would use the server as a proxy.
fn is_target(uri: &Uri) -> bool {
    let has_user = |authority: &Authority| authority.as_str().contains('@');
    uri.path().starts_with('/') && !uri.authority().is_some_and(has_user)
}

/// wasmtime's list. Its own check creates the list again for each header of each request, including inbound ones.
static FORBIDDEN_HEADERS: LazyLock<[HeaderName; 9]> = LazyLock::new(|| DEFAULT_FORBIDDEN_HEADERS);

/// Size limit of one `fields` resource in memory.
const MAX_FIELDS_SIZE: usize = 64 << 10;

/// Chunk size of a body that a component writes, the same as in wasmtime's own server, so that a component that writes 2 MiB before it
/// sends the body works here, too. wasmtime buffers two chunks.
const BODY_CHUNK: u64 = 1 << 20;

/// Chunk size once `buffer_limit` is used up. With it, no resource of an instance holds more than `MAX_FIELDS_SIZE`.
const SMALL_BODY_CHUNK: usize = 32 << 10;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        FORBIDDEN_HEADERS.contains(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name| FORBIDDEN_HEADERS.contains(name))
    }

    // Called for each body. What a component writes is in the host's memory until it is read.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        match self.buffer_left.checked_sub(2 * BODY_CHUNK) {
            Some(left) => {
                self.buffer_left = left;
                BODY_CHUNK as usize
            }
            None => SMALL_BODY_CHUNK,
        }
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        SMALL_BODY_CHUNK
    }

    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<PendingResponse, Error>> + Send> {
        let uri = without_query(request.uri());
        let output = self.output.clone();
        let warn = move |message, uri: &str, error: Option<&str>| {
            if let Some(output) = &output {
                output.warn(message, Some(uri), error);
            }
        };
        let servers = self.servers.as_deref();
        let allowed = |servers: &&Servers| servers.allowed.iter().any(|a| a.matches(request.uri()));
        let Some(servers) = servers.filter(allowed) else {
            let message = "denied an outbound request: not in allowed_outbound_hosts";
            warn(message, &uri, None);
            return Box::new(async { Err(Error::HttpRequestDenied) });
        };
        let whole_server = request.method() == http::Method::OPTIONS && request.uri().path() == "*";
        if !is_target(request.uri()) && !whole_server {
            return Box::new(async { Err(Error::HttpRequestUriInvalid) });
        }
        let pool = servers.pool_for(request.uri());
        let permits = Arc::clone(&self.permits);
        let limit = self.timeout;
        let limited = move |requested: Option<Duration>| requested.unwrap_or(limit).min(limit);
        let options = options.unwrap_or_default();
        // The pool connects and sends in one step, so the two timeouts are added.
        let first_byte = limited(options.connect_timeout)
            .saturating_add(limited(options.first_byte_timeout))
            .min(limit);
        let between_bytes = limited(options.between_bytes_timeout);
        let span = tracing::trace_span!(
            target: telemetry::SPANS,
            parent: &self.span.get(),
            "http.client.request",
            otel.kind = "client",
            http.request.method = %request.method(),
            server.address = request.uri().host(),
            server.port = request.uri().port_u16(),
            url.full = uri,
            http.response.status_code = Empty,
        );
        telemetry::trace::inject(&span, request.headers_mut());
        let request_span = span.clone();
        let send = async move {
            // The wait is bounded by the deadline of the component's own request.
            let permit = permits
                .acquire_owned()
                .await
                .map_err(|_| Error::ConnectionTerminated)?;
            let response = match tokio::time::timeout(first_byte, pool.request(request)).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => {
                    let code = reason(&error);
                    let error = format!("{:#}", anyhow::Error::from(error));
                    warn("an outbound request failed", &uri, Some(&error));
                    return Err(code);
                }
                Err(_) => {
                    let error = format!("after {}", humantime::format_duration(first_byte));
                    warn("an outbound request timed out", &uri, Some(&error));
                    return Err(Error::ConnectionReadTimeout);
                }
            };
            request_span.record("http.response.status_code", response.status().as_u16());
            let response = response.map(|body| with_read_timeout(body, between_bytes, permit));
            let sent: Box<dyn Future<Output = Result<(), Error>> + Send> =
                Box::new(async { Ok(()) });
            Ok((response, sent))
        };
        Box::new(send.instrument(span))
    }
}

type PendingResponse = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

/// Returns why a request failed, as an error code of `wasi:http`. The log has the details.
fn reason(error: &hyper_util::client::legacy::Error) -> Error {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let code = causes
        .flat_map(|cause| {
            // The error inside an I/O error is not in its source chain, and may be an I/O error itself.
            std::iter::successors(Some(cause), |cause| {
                let inner = cause.downcast_ref::<std::io::Error>()?.get_ref()?;
                Some(inner as &(dyn std::error::Error + 'static))
            })
        })
        .filter_map(code)
        .last();
    code.unwrap_or(match error.is_connect() {
        true => Error::DestinationUnavailable,
        false => Error::HttpProtocolError,
    })
}

/// Returns the code of one cause, if it has one.
fn code(cause: &(dyn std::error::Error + 'static)) -> Option<Error> {
    use std::io::ErrorKind;

    if cause.is::<NotPublic>() {
        return Some(Error::DestinationIpProhibited);
    }
    if cause.is::<NoAddress>() {
        return Some(Error::DnsError {
            rcode: None,
            info_code: None,
        });
    }
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(match error {
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                Error::TlsCertificateError
            }
            rustls::Error::AlertReceived(alert) => Error::TlsAlertReceived {
                alert_id: Some(u8::from(*alert)),
                alert_message: alert.as_str().map(str::to_owned),
            },
            _ => Error::TlsProtocolError,
        });
    }
    match cause.downcast_ref::<std::io::Error>()?.kind() {
        ErrorKind::ConnectionRefused => Some(Error::ConnectionRefused),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            Some(Error::ConnectionTerminated)
        }
        ErrorKind::TimedOut => Some(Error::ConnectionTimeout),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            Some(Error::DestinationIpUnroutable)
        }
        _ => None,
    }
}

/// Wraps a body so that it fails if it pauses for longer than `limit`, and holds its request's permit until its end.
fn with_read_timeout(
    body: hyper::body::Incoming,
    limit: Duration,
    permit: OwnedSemaphorePermit,
) -> WasiBody {
    let frames = futures::stream::unfold((body, permit), move |(mut body, permit)| async move {
        let frame = match tokio::time::timeout(limit, body.frame()).await {
            Ok(None) => return None,
            Ok(Some(frame)) => frame.map_err(Error::from),
            Err(_) => Err(Error::ConnectionReadTimeout),
        };
        Some((frame, (body, permit)))
    });
    WasiBody::new(http_body_util::StreamBody::new(frames))
}

fn without_query(uri: &Uri) -> String {
    format!(
        "{}://{}{}",
        uri.scheme_str().unwrap_or("https"),
        uri.authority().map_or("", |a| a.as_str()),
        uri.path()
    )
}
