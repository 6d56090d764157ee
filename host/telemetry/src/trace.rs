//! Traces: export of the spans with OTLP, and W3C Trace Context in the headers of requests.
//!
//! The environment variables of OpenTelemetry configure the export. Without an endpoint in them, no span is made, and the headers of
//! requests are left as they are.

mod settings;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::TextMapPropagator as _;
pub use opentelemetry::trace::TraceId;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HeaderExtractor, HeaderInjector, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use settings::{Settings, names_service};

/// The header of W3C Trace Context with the ids of trace and span.
const TRACEPARENT: &str = "traceparent";
/// Its header with what vendors add.
const TRACESTATE: &str = "tracestate";
/// Characters of it that each participant must pass on at least (W3C Trace Context, section 3.3.1.5).
const MAX_TRACESTATE: usize = 512;

/// Maximum length of an answer of the collector, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Sends spans to a collector, in batches.
pub struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Creates the exporter that the environment configures; `None` if it names no endpoint, or disables the export. Requests are
    /// sent with the client that `client` makes, on the current runtime. `version` is that of this program.
    ///
    /// # Errors
    /// When the configuration is invalid, or asks for another protocol than `http/protobuf`.
    pub fn from_environment(
        client: impl FnOnce() -> anyhow::Result<reqwest::Client>,
        version: &'static str,
    ) -> anyhow::Result<Option<Self>> {
        let Some(Settings { timeout }) = Settings::read(variable)? else {
            return Ok(None);
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client {
                client: client()?,
                timeout,
                runtime: Handle::current(),
                failing: AtomicBool::new(false),
            })
            .build()
            .context("cannot export traces: see the OTEL_EXPORTER_OTLP_* variables")?;
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", version));
        if !names_service(variable) {
            resource = resource.with_service_name("whisper-host");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        Ok(Some(Self { provider }))
    }

    /// The layer that turns spans with the target [`SPANS`](crate::SPANS) into those of OpenTelemetry.
    pub(crate) fn layer<S>(&self) -> impl Layer<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("whisper-host"))
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
    }

    /// Sends the spans that have ended, but for no longer than `timeout`. Blocks. Errors are logged.
    pub fn shutdown(self, timeout: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(timeout) {
            tracing::warn!(%error, "the last spans may not have been exported");
        }
    }
}

/// Sends the exporter's requests, which come from a thread of its own, on the runtime. The exporter itself does not say why a request
/// failed.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    timeout: Duration,
    runtime: Handle,
    /// Whether the last request failed.
    failing: AtomicBool,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, HttpError> {
        let mut request = reqwest::Request::try_from(request)?;
        *request.timeout_mut() = Some(self.timeout);
        let sending = self.runtime.spawn(send(self.client.clone(), request));
        let sent = sending.await?;
        let reason = match &sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("the collector answers {}", response.status())),
            Err(error) => Some(format!("{error:#}")),
        };
        let was_failing = self.failing.swap(reason.is_some(), Ordering::Relaxed);
        match reason {
            Some(reason) if !was_failing => tracing::warn!(reason, "cannot export traces"),
            None if was_failing => tracing::info!("exporting traces again"),
            _ => {}
        }
        sent.map_err(Into::into)
    }
}

async fn send(
    client: reqwest::Client,
    request: reqwest::Request,
) -> anyhow::Result<http::Response<Bytes>> {
    let mut response = client
        .execute(request)
        .await
        .map_err(reqwest::Error::without_url)?;
    let mut converted = http::Response::builder().status(response.status());
    if let Some(headers) = converted.headers_mut() {
        *headers = response.headers().clone();
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        anyhow::ensure!(
            body.len() + chunk.len() <= MAX_ANSWER,
            "the collector's answer is too long"
        );
        body.extend_from_slice(&chunk);
    }
    Ok(converted.body(body.into())?)
}

/// Makes the span of a request a child of the span that the request's headers name, and returns the id of its trace: `None` if the
/// request belongs to none.
#[must_use]
pub fn accept(span: &Span, headers: &HeaderMap) -> Option<TraceId> {
    if span.is_disabled() && !headers.contains_key(TRACEPARENT) {
        return None;
    }
    let remote = remote(headers);
    let remote_id = id(&remote);
    if span.is_disabled() {
        return remote_id;
    }
    // Fails if spans are only logged.
    let _ = span.set_parent(remote);
    id(&span.context()).or(remote_id)
}

/// Returns the trace context in the headers. Each span keeps the vendors' part of it, so that is dropped if it is longer than W3C
/// Trace Context demands to pass on.
fn remote(headers: &HeaderMap) -> Context {
    let mut fields = HeaderMap::with_capacity(2);
    let parent = headers.get(TRACEPARENT).map(HeaderValue::as_bytes);
    if !parent.is_some_and(is_traceparent) {
        return Context::new();
    }
    for name in [TRACEPARENT, TRACESTATE] {
        let values = headers.get_all(name);
        let length: usize = values.iter().map(HeaderValue::len).sum();
        if length <= MAX_TRACESTATE {
            fields.extend(
                values
                    .iter()
                    .map(|value| (HeaderName::from_static(name), value.clone())),
            );
        }
    }
    TraceContextPropagator::new().extract(&HeaderExtractor(&fields))
}

/// Whether a value has the form of `traceparent`, of which the propagator takes others, too: version, trace id, parent id and flags,
/// in lower-case hexadecimal. Later versions may have more fields.
fn is_traceparent(value: &[u8]) -> bool {
    let Some((fields, rest)) = value.split_at_checked(55) else {
        return false;
    };
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    fields.iter().enumerate().all(|(at, byte)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => is_hex(byte),
    }) && (rest.is_empty() || rest[0] == b'-' && &fields[..2] != b"00")
}

/// Replaces the trace context in the headers of a request by the span's: spans of the receiver become children of it. Without an
/// exporter, the headers stay as they are.
pub fn inject(span: &Span, headers: &mut HeaderMap) {
    if span.is_disabled() {
        return;
    }
    let context = span.context();
    if id(&context).is_some() {
        TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(headers));
        // The propagator sets it even if it is empty.
        if headers.get(TRACESTATE).is_some_and(HeaderValue::is_empty) {
            headers.remove(TRACESTATE);
        }
    }
}

/// Names an exported span. The field `otel.name` has no effect once the span's context was asked for.
pub fn set_name(span: &Span, name: String) {
    span.context().span().update_name(name);
}

fn id(context: &Context) -> Option<TraceId> {
    let id = context.span().span_context().trace_id();
    (id != TraceId::INVALID).then_some(id)
}

/// Returns the value of an environment variable. Empty ones count as unset, as OpenTelemetry demands.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::is_traceparent;

    #[test]
    fn only_the_form_of_the_specification_is_a_trace_parent() {
        let of_version = |version: &str, rest: &str| {
            is_traceparent(
                format!("{version}-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01{rest}")
                    .as_bytes(),
            )
        };
        assert!(of_version("00", "") && of_version("01", "-what-comes-later"));
        assert!(!of_version("00", "-more") && !of_version("01", "more") && !of_version("0A", ""));
        assert!(!is_traceparent(b"00-1-1-01"));
        assert!(!is_traceparent(
            b"00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        ));
    }
}
