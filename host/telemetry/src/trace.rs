//! Traces: export of the spans with OTLP, and W3C Trace Context in the headers of requests.
//!
//! The environment variables of OpenTelemetry configure the export. Without an endpoint in them, no span is made, and the headers of
//! requests are left as they are.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use http::HeaderMap;
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator as _;
pub use opentelemetry::trace::TraceId;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_http::{Bytes, HeaderExtractor, HeaderInjector, HttpClient, HttpError};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_EXPORTER_OTLP_TIMEOUT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, SpanExporter, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

/// The header of W3C Trace Context with the ids of trace and span.
const TRACEPARENT: &str = "traceparent";
/// Time for one request to the collector, unless the environment sets another.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum length of an answer of the collector, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Sends spans to a collector, in batches.
pub struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Creates the exporter that the environment configures; `None` if it names no endpoint, or disables the export. Requests are
    /// sent with `client`, on the current runtime. `version` is that of this program.
    ///
    /// # Errors
    /// When the configuration is invalid, or asks for another protocol than `http/protobuf`.
    pub fn from_environment(
        client: reqwest::Client,
        version: &'static str,
    ) -> anyhow::Result<Option<Self>> {
        let endpoint = first_of([
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
            OTEL_EXPORTER_OTLP_ENDPOINT,
        ]);
        let disabled = variable("OTEL_SDK_DISABLED")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        if endpoint.is_none() || disabled {
            return Ok(None);
        }
        let protocol = first_of([
            OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
            OTEL_EXPORTER_OTLP_PROTOCOL,
        ]);
        if let Some((name, protocol)) = protocol {
            anyhow::ensure!(
                protocol == "http/protobuf",
                "{name} is \"{protocol}\"; the only supported protocol is http/protobuf, on port 4318 of most collectors"
            );
        }
        let timeout = match first_of([
            OTEL_EXPORTER_OTLP_TRACES_TIMEOUT,
            OTEL_EXPORTER_OTLP_TIMEOUT,
        ]) {
            Some((name, value)) => Duration::from_millis(value.parse().with_context(|| {
                format!("{name} is \"{value}\"; give a number of milliseconds")
            })?),
            None => TIMEOUT,
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client {
                client,
                timeout,
                runtime: Handle::current(),
            })
            .build()
            .context("cannot export traces: see the OTEL_EXPORTER_OTLP_* variables")?;
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", version));
        let names_service = |attributes: String| attributes.contains("service.name=");
        if variable("OTEL_SERVICE_NAME").is_none()
            && !variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(names_service)
        {
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

/// Sends the exporter's requests, which come from a thread of its own, on the runtime.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    timeout: Duration,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, HttpError> {
        let mut request = reqwest::Request::try_from(request)?;
        *request.timeout_mut() = Some(self.timeout);
        let client = self.client.clone();
        let send = async move {
            let mut response = client.execute(request).await?;
            let mut converted = http::Response::builder().status(response.status());
            if let Some(headers) = converted.headers_mut() {
                *headers = response.headers().clone();
            }
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                if body.len() + chunk.len() > MAX_ANSWER {
                    return Err("the answer of the collector is too long".into());
                }
                body.extend_from_slice(&chunk);
            }
            Ok(converted.body(body.into())?)
        };
        self.runtime.spawn(send).await?
    }
}

/// Makes the span of a request a child of the span that the request's headers name, and returns the id of its trace: `None` if the
/// request belongs to none.
#[must_use]
pub fn accept(span: &Span, headers: &HeaderMap) -> Option<TraceId> {
    if span.is_disabled() && !headers.contains_key(TRACEPARENT) {
        return None;
    }
    let remote = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    let remote_id = id(&remote);
    if span.is_disabled() {
        return remote_id;
    }
    // Fails if spans are only logged.
    let _ = span.set_parent(remote);
    id(&span.context()).or(remote_id)
}

/// Replaces the trace context in the headers of a request by the span's: spans of the receiver become children of it. Without an
/// exporter, the headers stay as they are.
pub fn inject(span: &Span, headers: &mut HeaderMap) {
    if span.is_disabled() {
        return;
    }
    let context = span.context();
    if id(&context).is_some() {
        headers.remove("tracestate");
        TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(headers));
    }
}

/// Names an exported span. The field `otel.name` has no effect once the span's context was asked for.
pub fn set_name(span: &Span, name: String) {
    span.context().span().update_name(name);
}

fn id(context: &opentelemetry::Context) -> Option<TraceId> {
    let id = context.span().span_context().trace_id();
    (id != TraceId::INVALID).then_some(id)
}

/// The first of these environment variables that has a value, and the value.
fn first_of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, String)> {
    names
        .into_iter()
        .find_map(|name| Some((name, variable(name)?)))
}

/// The value of an environment variable. OpenTelemetry's count as unset if they are empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
