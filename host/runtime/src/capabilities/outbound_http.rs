//! Outbound HTTP: `wasi:http`'s client, for the servers that `allowed_outbound_hosts` names and no others.
//!
//! Every component may import the interface, because most toolchains import it whether it is used or not; what is not
//! allowed is denied at the call. Connections are pooled, and shared by all components.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::Uri;
use http_body_util::BodyExt as _;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use wasmtime::component::Linker;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::Capability;
use crate::engine::InstanceState;
use crate::manifest::{Component, Limits, Manifest};

type Pool = Client<HttpsConnector<HttpConnector>, WasiBody>;

/// The pool of connections.
pub struct OutboundHttp(Pool);

/// What one instance may reach.
pub(crate) struct State {
    allowed: Arc<[AllowedHost]>,
    pool: Pool,
    timeout: Duration,
}

impl OutboundHttp {
    /// An empty pool. Servers prove themselves by the certificate authorities of Mozilla's list.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new() -> anyhow::Result<Self> {
        /// Idle connections kept for one server.
        const IDLE_PER_HOST: usize = 32;
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS for outbound requests")?
        .with_webpki_roots()
        .with_no_client_auth();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(connector);
        Ok(Self(
            Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(IDLE_PER_HOST)
                .pool_timer(TokioTimer::new())
                .build(connector),
        ))
    }
}

impl Capability for OutboundHttp {
    const RESTRICTED: &'static [&'static str] = &[];
    const HOW_TO_GRANT: &'static str = "name the server in `allowed_outbound_hosts`";
    type Grant = Arc<[AllowedHost]>;
    type State = State;

    fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
        wasmtime_wasi_http::p3::add_to_linker(linker)
    }

    fn grant(&self, _: &Manifest, component: &Component) -> anyhow::Result<Option<Self::Grant>> {
        let allowed: Arc<[AllowedHost]> = component
            .allowed_outbound_hosts
            .iter()
            .map(|entry| AllowedHost::parse(entry))
            .collect::<Result<_, _>>()?;
        Ok((!allowed.is_empty()).then_some(allowed))
    }

    fn describe(grant: &Self::Grant) -> String {
        let hosts: Vec<String> = grant.iter().map(ToString::to_string).collect();
        format!("outbound HTTP to {}", hosts.join(", "))
    }

    fn state(&self, grant: Option<&Self::Grant>, limits: &Limits) -> State {
        State {
            allowed: grant.cloned().unwrap_or_else(|| Arc::from([])),
            pool: self.0.clone(),
            timeout: limits.outbound_timeout,
        }
    }
}

impl WasiHttpHooks for State {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Answer, Error>> + Send> {
        if !self
            .allowed
            .iter()
            .any(|allowed| allowed.matches(request.uri()))
        {
            tracing::warn!(uri = %without_query(request.uri()), "denied an outbound request: not in allowed_outbound_hosts");
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        let pool = self.pool.clone();
        let limit = self.timeout;
        let within = move |asked: Option<Duration>| asked.unwrap_or(limit).min(limit);
        let options = options.unwrap_or_default();
        // The pool connects and sends in one step, so the two limits are one.
        let first_byte = within(options.connect_timeout) + within(options.first_byte_timeout);
        let between_bytes = within(options.between_bytes_timeout);
        Box::new(async move {
            let response = tokio::time::timeout(first_byte, pool.request(request))
                .await
                .map_err(|_| Error::ConnectionReadTimeout)?
                .map_err(|error| {
                    tracing::debug!(%error, "an outbound request failed");
                    if error.is_connect() {
                        Error::ConnectionRefused
                    } else {
                        Error::HttpProtocolError
                    }
                })?;
            let response = response.map(|body| paced(body, between_bytes));
            let sent: Box<dyn Future<Output = Result<(), Error>> + Send> =
                Box::new(async { Ok(()) });
            Ok((response, sent))
        })
    }
}

type Answer = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

/// A body that fails when it pauses for longer than `limit`.
fn paced(body: hyper::body::Incoming, limit: Duration) -> WasiBody {
    let frames = futures::stream::unfold(body, move |mut body| async move {
        let frame = match tokio::time::timeout(limit, body.frame()).await {
            Ok(None) => return None,
            Ok(Some(frame)) => frame.map_err(Error::from),
            Err(_) => Err(Error::ConnectionReadTimeout),
        };
        Some((frame, body))
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

/// An entry of `allowed_outbound_hosts`: `scheme://host:port`, with Spin's meaning. The scheme or the port may be `*`, the
/// host may be `*` or begin with `*.`, and without a port the scheme's own is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AllowedHost {
    /// `http`, `https`, or any.
    scheme: Option<String>,
    host: HostPattern,
    /// None: any.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    Any,
    /// Every host below this domain.
    Below(String),
    Exactly(String),
}

impl AllowedHost {
    fn parse(entry: &str) -> anyhow::Result<Self> {
        let form = || {
            format!(
                "allowed_outbound_hosts: \"{entry}\" is not of the form scheme://host:port, e.g. \"https://example.com\""
            )
        };
        let (scheme, rest) = entry.split_once("://").with_context(form)?;
        let scheme = match scheme {
            "*" => None,
            "http" | "https" => Some(scheme.to_owned()),
            _ => anyhow::bail!(
                "allowed_outbound_hosts: \"{entry}\": the scheme must be http, https or *"
            ),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') || rest.contains('@') || rest.is_empty() {
            anyhow::bail!("{}", form());
        }
        // The colons of an IPv6 address stand in brackets.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let port = match (port, scheme.as_deref()) {
            (Some("*"), _) => None,
            (Some(port), _) => Some(port.parse().ok().with_context(form)?),
            (None, Some("http")) => Some(80),
            (None, Some(_)) => Some(443),
            (None, None) => anyhow::bail!(
                "allowed_outbound_hosts: \"{entry}\": any scheme needs a port, or `:*`"
            ),
        };
        let host = match host {
            "" => anyhow::bail!("{}", form()),
            "*" => HostPattern::Any,
            host => match host.strip_prefix("*.") {
                Some(domain) if !domain.contains('*') => {
                    HostPattern::Below(domain.to_ascii_lowercase())
                }
                None if !host.contains('*') => HostPattern::Exactly(host.to_ascii_lowercase()),
                _ => anyhow::bail!(
                    "allowed_outbound_hosts: \"{entry}\": `*` stands alone or begins the host"
                ),
            },
        };
        Ok(Self { scheme, host, port })
    }

    fn matches(&self, uri: &Uri) -> bool {
        let scheme = uri.scheme_str().unwrap_or("https");
        let Some(host) = uri.host().map(str::to_ascii_lowercase) else {
            return false;
        };
        let port = uri
            .port_u16()
            .unwrap_or(if scheme == "http" { 80 } else { 443 });
        self.scheme
            .as_deref()
            .is_none_or(|allowed| allowed == scheme)
            && self.port.is_none_or(|allowed| allowed == port)
            && match &self.host {
                HostPattern::Any => true,
                HostPattern::Below(domain) => host
                    .strip_suffix(domain.as_str())
                    .is_some_and(|rest| rest.ends_with('.')),
                HostPattern::Exactly(allowed) => *allowed == host,
            }
    }
}

impl std::fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = match &self.host {
            HostPattern::Any => "*".to_owned(),
            HostPattern::Below(domain) => format!("*.{domain}"),
            HostPattern::Exactly(host) => host.clone(),
        };
        let port = self
            .port
            .map_or_else(|| "*".to_owned(), |port| port.to_string());
        write!(
            f,
            "{}://{host}:{port}",
            self.scheme.as_deref().unwrap_or("*")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::AllowedHost;

    fn allows(entry: &str, uri: &str) -> bool {
        AllowedHost::parse(entry)
            .unwrap()
            .matches(&uri.parse().unwrap())
    }

    #[test]
    fn an_entry_allows_its_scheme_host_and_port_only() {
        assert!(allows("https://example.com", "https://example.com/a?b=c"));
        assert!(allows("https://example.com", "https://EXAMPLE.com:443/"));
        assert!(!allows("https://example.com", "http://example.com/"));
        assert!(!allows("https://example.com", "https://example.com:8443/"));
        assert!(!allows("https://example.com", "https://sub.example.com/"));
        assert!(!allows(
            "https://example.com",
            "https://example.com.evil.test/"
        ));
        assert!(allows("http://127.0.0.1:9000", "http://127.0.0.1:9000/x"));
        assert!(allows("http://[::1]:9000", "http://[::1]:9000/x"));
    }

    #[test]
    fn stars_stand_for_any_scheme_subdomain_or_port() {
        assert!(allows("https://*.example.com", "https://a.b.example.com/"));
        assert!(!allows("https://*.example.com", "https://example.com/"));
        assert!(!allows("https://*.example.com", "https://badexample.com/"));
        assert!(allows("*://example.com:*", "http://example.com:1234/"));
        assert!(allows("http://*:80", "http://anything.test/"));
    }

    #[test]
    fn entries_of_another_form_are_refused() {
        for entry in [
            "example.com",
            "ftp://example.com",
            "https://",
            "https://a*b.com",
            "*://example.com",
            "https://example.com/path",
            "https://me@example.com",
            "https://example.com:port",
        ] {
            assert!(AllowedHost::parse(entry).is_err(), "{entry}");
        }
    }
}
