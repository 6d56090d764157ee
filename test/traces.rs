//! Traces, as a collector of OpenTelemetry gets them.

mod common;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Read as _;
use std::sync::{Arc, Mutex};

use common::{Answer, Host, answer, client, eventually, recording, state_dir, whisper_host};
use flate2::read::GzDecoder;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message as _;

/// Ids of a trace and of its span, and a header that names both, from the specification of W3C Trace Context.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector on loopback. It runs until the test ends.
struct Collector {
    endpoint: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    spans: Vec<Span>,
    /// Attributes of the process that sent the last spans.
    resource: BTreeMap<String, String>,
    /// The `authorization` header of the last request.
    authorization: Option<String>,
    /// How many of the next requests get 503.
    busy: usize,
    /// Requests, with those that got 503.
    requests: usize,
}

impl Collector {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| collect(request, Arc::clone(&state)));
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { endpoint, state }
    }

    /// Starts a host that exports to this collector every 100 ms.
    fn host(&self, manifest: Option<&str>, environment: &[(&str, &str)]) -> Host {
        let own = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*self.endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ];
        let environment = [&own, environment].concat();
        let state = state_dir();
        match manifest {
            Some(manifest) => {
                let path = common::write_manifest(state.path(), manifest);
                let args = ["-f", path.to_str().unwrap()];
                Host::with_environment(state, &args, &environment)
            }
            None => Host::with_environment(state, &[], &environment),
        }
    }

    /// The spans of a trace, once one with this name has come: it is the last to end.
    async fn trace(&self, id: &str, last: &str) -> Vec<Span> {
        let of_trace = |span: &&Span| hex(&span.trace_id) == id;
        eventually(async || {
            let state = self.state.lock().unwrap();
            let spans: Vec<Span> = state.spans.iter().filter(of_trace).cloned().collect();
            spans.iter().any(|span| span.name == last).then_some(spans)
        })
        .await
    }
}

/// Takes spans as OTLP/HTTP sends them.
async fn collect(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri().path(), "/v1/traces");
    let header = |name| Some(request.headers().get(name)?.to_str().unwrap().to_owned());
    assert_eq!(
        header("content-type").as_deref(),
        Some("application/x-protobuf")
    );
    let (authorization, encoding) = (header("authorization"), header("content-encoding"));
    let mut body = request.into_body().collect().await.unwrap().to_bytes();
    if encoding.is_some() {
        assert_eq!(encoding.as_deref(), Some("gzip"));
        let mut plain = Vec::new();
        GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
        body = plain.into();
    }
    let sent = ExportTraceServiceRequest::decode(body).unwrap();
    let mut state = state.lock().unwrap();
    state.requests += 1;
    state.authorization = authorization;
    let status = match state.busy.checked_sub(1) {
        Some(left) => {
            state.busy = left;
            StatusCode::SERVICE_UNAVAILABLE
        }
        None => {
            for of_process in sent.resource_spans {
                state.resource = attributes(&of_process.resource.unwrap().attributes);
                let scopes = of_process.scope_spans.into_iter();
                state.spans.extend(scopes.flat_map(|scope| scope.spans));
            }
            StatusCode::OK
        }
    };
    // An `ExportTraceServiceResponse` without fields has no bytes.
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    Ok(response)
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    pairs
        .iter()
        .map(|pair| (pair.key.clone(), text(&pair.value)))
        .collect()
}

async fn traced(host: &Host, path: &str, body: Vec<u8>) -> Answer {
    let request = client()
        .post(format!("{}{path}", host.url))
        .header("traceparent", TRACEPARENT)
        .body(body);
    answer(request.send().await.unwrap()).await
}

#[tokio::test]
async fn the_parts_of_a_request_are_one_trace() {
    let collector = Collector::start().await;
    let host = collector.host(
        None,
        &[
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer%20secret",
            ),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "deployment.environment.name=test",
            ),
        ],
    );
    let heard = traced(&host, "/analyze", recording("garden.flac")).await;
    assert_eq!(heard.status, 200);
    let request_id = heard.headers["x-request-id"].to_str().unwrap();

    let spans = collector.trace(TRACE, "POST /analyze").await;
    let named = |name: &str| {
        let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {spans:#?}");
        found[0]
    };
    let request = named("POST /analyze");
    assert_eq!(hex(&request.parent_span_id), PARENT);
    for (child, parent) in [
        ("invocation", "POST /analyze"),
        ("decode", "invocation"),
        ("log-mel", "invocation"),
        ("window", "invocation"),
        ("queue", "window"),
        ("encoder", "window"),
        ("decoder", "window"),
        ("timeseries", "invocation"),
    ] {
        let (child, parent) = (named(child), named(parent));
        assert_eq!(child.parent_span_id, parent.span_id, "{child:?}");
        assert!(child.start_time_unix_nano >= parent.start_time_unix_nano);
        assert!(child.end_time_unix_nano >= child.start_time_unix_nano);
        // An invocation may outlast its response.
        if child.name != "invocation" {
            assert!(
                child.end_time_unix_nano <= parent.end_time_unix_nano,
                "{child:?} in {parent:?}"
            );
        }
    }
    assert_eq!(request.kind(), SpanKind::Server);
    let about = attributes(&request.attributes);
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/analyze"),
        ("http.response.status_code", "200"),
        ("url.path", "/analyze"),
        ("request_id", request_id),
    ] {
        assert_eq!(about.get(name).map(String::as_str), Some(value), "{name}");
    }
    for name in ["decode", "log-mel"] {
        let span = named(name);
        let busy: u64 = attributes(&span.attributes)["busy_ns"].parse().unwrap();
        let whole = span.end_time_unix_nano - span.start_time_unix_nano;
        // Two clocks measure them.
        assert!(
            busy > 0 && busy < whole + 1_000_000,
            "{name}: {busy} of {whole}"
        );
    }
    let (resource, authorization) = {
        let state = collector.state.lock().unwrap();
        (state.resource.clone(), state.authorization.clone())
    };
    assert_eq!(resource["service.name"], "whisper-host");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["deployment.environment.name"], "test");
    assert_eq!(authorization.as_deref(), Some("Bearer secret"));

    let line = host.wait_for_log(|line| line["message"] == "request").await;
    assert_eq!(line["request_id"], request_id);
    assert_eq!(line["trace_id"], TRACE);
}

/// A component that calls a server, and fails on request.
const PROBE: &str = r#"
spin_manifest_version = 2
[application]
name = "probe"
[[trigger.http]]
route = "/probe/..."
component = "probe"
[component.probe]
source = "{components}/probe-wasi02.wasm"
allowed_outbound_hosts = ["http://{server}"]
"#;

#[tokio::test]
async fn a_trace_goes_on_in_the_server_that_a_component_calls() {
    let collector = Collector::start().await;
    // It exports nothing, but has the trace in its log.
    let server = Host::with_manifest(PROBE, &[]);
    let host = collector.host(Some(&PROBE.replace("{server}", server.address())), &[]);
    let path = format!("/probe/fetch?{}/probe/hello", server.address());
    // No trace context: the host begins a trace.
    assert_eq!(host.get(&path).await.text, "200");
    let line = host.wait_for_log(|line| line["message"] == "request").await;
    let trace = line["trace_id"].as_str().unwrap();
    let received = server
        .wait_for_log(|line| line["message"] == "request")
        .await;
    assert_eq!(received["trace_id"], trace);

    let spans = collector.trace(trace, "GET /probe/...").await;
    let call = spans.iter().find(|span| span.name == "http.client.request");
    let call = call.unwrap();
    assert_eq!(call.kind(), SpanKind::Client);
    let invocation = spans.iter().find(|span| span.name == "invocation").unwrap();
    assert_eq!(call.parent_span_id, invocation.span_id);
}

#[tokio::test]
async fn every_line_about_a_request_has_its_ids() {
    let server = common::free_address();
    let host = Host::with_manifest(&PROBE.replace("{server}", &server), &[]);
    for path in [
        "/probe/print",
        "/probe/trap",
        &format!("/probe/fetch?{server}/"),
        "/nowhere",
    ] {
        traced(&host, path, Vec::new()).await;
    }
    let about = |message: &'static str| {
        move |line: &serde_json::Value| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.contains(message))
        }
    };
    for message in ["the component trapped", "an outbound request failed"] {
        host.wait_for_log(about(message)).await;
    }
    host.wait_for_log(|line| line["url.path"] == "/nowhere")
        .await;
    let lines = host.log();
    let of_requests: Vec<_> = lines
        .iter()
        .filter(|line| line["request_id"].is_string())
        .collect();
    assert!(of_requests.len() > 6, "{lines:#?}");
    for line in &of_requests {
        assert_eq!(line["trace_id"], TRACE, "{line}");
    }
    // A request without trace context is a trace of its own.
    host.get("/probe/hello").await;
    let line = host
        .wait_for_log(|line| line["url.path"] == "/probe/hello")
        .await;
    let digits = line["request_id"].as_str().unwrap().replace('-', "");
    assert_eq!(line["trace_id"], digits);
    // The others are about the host itself.
    for line in lines.iter().filter(|line| line["request_id"].is_null()) {
        assert!(line["component"].is_null(), "{line}");
    }
}

#[tokio::test]
async fn a_failed_request_has_a_failed_span() {
    let collector = Collector::start().await;
    let host = collector.host(Some(PROBE), &[]);
    assert_eq!(traced(&host, "/probe/trap", Vec::new()).await.status, 500);
    assert_eq!(traced(&host, "/nowhere", Vec::new()).await.status, 404);
    let spans = collector.trace(TRACE, "POST").await;
    let status = |name: &str| {
        let span = spans.iter().find(|span| span.name == name).unwrap();
        span.status.as_ref().map(|status| status.code())
    };
    assert_eq!(status("POST /probe/..."), Some(SpanStatus::Error));
    assert_ne!(status("POST"), Some(SpanStatus::Error));
}

#[tokio::test]
async fn spans_are_sent_again_if_the_collector_is_busy() {
    let collector = Collector::start().await;
    collector.state.lock().unwrap().busy = 1;
    let host = collector.host(Some(PROBE), &[]);
    traced(&host, "/probe/hello", Vec::new()).await;
    collector.trace(TRACE, "POST /probe/...").await;
    assert!(collector.state.lock().unwrap().requests >= 2);
}

/// The probe, with instances that serve many requests and stay idle in between.
const REUSED: &str = r#"
[component.probe.tool.whisper-host.limits]
instance_reuse = 100
instance_idle = "1h"
"#;

#[tokio::test]
async fn the_last_spans_are_sent_at_the_end() {
    let collector = Collector::start().await;
    let never = [("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
    for manifest in [PROBE.to_owned(), format!("{PROBE}{REUSED}")] {
        let mut host = collector.host(Some(&manifest), &never);
        traced(&host, "/probe/hello", Vec::new()).await;
        host.signal(rustix::process::Signal::TERM);
        assert_eq!(host.exit_code().await, Some(0));
        let sent = std::mem::take(&mut collector.state.lock().unwrap().spans);
        for name in ["POST /probe/...", "invocation"] {
            assert!(sent.iter().any(|span| span.name == name), "{sent:#?}");
        }
    }
}

#[tokio::test]
async fn spans_do_not_wait_for_the_next_request_of_an_instance() {
    let collector = Collector::start().await;
    let host = collector.host(Some(&format!("{PROBE}{REUSED}")), &[]);
    traced(&host, "/probe/hello", Vec::new()).await;
    collector.trace(TRACE, "POST /probe/...").await;
}

#[tokio::test]
async fn a_request_whose_client_left_has_a_failed_span() {
    let collector = Collector::start().await;
    let host = collector.host(Some(PROBE), &[]);
    let request = client()
        .get(format!("{}/probe/sleep", host.url))
        .header("traceparent", TRACEPARENT)
        .timeout(std::time::Duration::from_millis(500));
    request.send().await.unwrap_err();
    let spans = collector.trace(TRACE, "GET /probe/...").await;
    let span = spans.iter().find(|span| span.name == "GET /probe/...");
    let attributes = attributes(&span.unwrap().attributes);
    assert_eq!(attributes["error.type"], "client_left");
}

#[tokio::test]
async fn a_long_trace_state_is_not_passed_on() {
    let host = Host::with_manifest(PROBE, &[]);
    let collector = Collector::start().await;
    let traced_host = collector.host(Some(PROBE), &[]);
    for (host, state, expected) in [
        // Without an exporter, headers are passed as they came.
        (&host, "a=1", true),
        (&traced_host, "a=1", true),
        (&traced_host, &*format!("a={}", "x".repeat(600)), false),
        (&traced_host, "", false),
    ] {
        let request = client()
            .get(format!("{}/probe/headers", host.url))
            .header("traceparent", TRACEPARENT)
            .header("tracestate", state);
        let seen = answer(request.send().await.unwrap()).await;
        let headers: Vec<&str> = seen.text.lines().collect();
        assert!(headers.contains(&"traceparent"), "{headers:?}");
        assert_eq!(
            headers.contains(&"tracestate"),
            expected,
            "{state:?}: {headers:?}"
        );
    }
}

#[tokio::test]
async fn requests_are_served_while_the_collector_is_down() {
    let address = common::free_address();
    let endpoint = format!("http://{address}");
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let mut host = Host::with_environment(state_dir(), &[], &environment);
    host.get("/stats").await;
    let line = host
        .wait_for_log(|line| line["message"] == "cannot export traces")
        .await;
    assert_eq!(line["level"], "WARN");
    assert!(
        line["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty()),
        "{line}"
    );
    assert_eq!(host.get("/stats").await.status, 200);
    host.signal(rustix::process::Signal::TERM);
    assert_eq!(host.exit_code().await, Some(0));
}

#[test]
fn settings_of_the_export_that_do_not_work_are_refused() {
    let state = state_dir();
    let output = whisper_host()
        .args([
            "up",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ])
        .arg("--state-dir")
        .arg(state.path())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\""),
        "{said}"
    );
}
