//! An HTTP server that speaks the part of InfluxDB 2.7's API that the store uses, strictly: any other path, parameter, header or Flux
//! is an error. Answers and errors have the forms of the documentation that `src/influx/api.rs` names.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use influxdb_line_protocol::{FieldValue, parse_lines};
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

use super::flux;

pub const TOKEN: &str = "secret-token";
pub const ORG: &str = "speech";

/// A value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Float(f64),
    Integer(i64),
    Text(String),
    Boolean(bool),
}

/// Measurement and sorted tags.
pub type Series = (String, Vec<(String, String)>);

/// What the next request meets, instead of being answered normally.
#[derive(Debug, Clone)]
pub enum Fault {
    /// An error of this status, without carrying out the request.
    Status(u16),
    /// The same, as a proxy or another server says it, with this body.
    Foreign(u16, &'static str),
    /// A success with this body.
    Body(String),
    /// The same as `Status`, with `Retry-After` in seconds.
    RetryAfter(u16, u64),
    /// The request is carried out, but the connection ends before the answer.
    Close,
    /// The request is carried out, and answered after this time.
    Slow(Duration),
}

#[derive(Default)]
pub struct State {
    /// Retention in seconds of each bucket; 0 is for ever.
    pub buckets: BTreeMap<String, u64>,
    /// The points, by series and time.
    pub points: BTreeMap<(Series, i64), BTreeMap<String, Value>>,
    /// Faults of the next writes.
    pub write_faults: VecDeque<Fault>,
    /// Faults of the next queries.
    pub query_faults: VecDeque<Fault>,
    /// Number of points in each write that was carried out.
    pub writes: Vec<usize>,
    /// Number of write requests, with when they came.
    pub requests: Vec<std::time::Instant>,
    /// Whether the token may create buckets.
    pub may_create: bool,
    /// Larger bodies get 413.
    pub max_body: Option<usize>,
}

/// A running server.
pub struct Server {
    pub state: Arc<Mutex<State>>,
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub async fn start() -> Self {
        let state = State {
            buckets: [("calls".to_owned(), 0)].into(),
            ..State::default()
        };
        Self::serve("127.0.0.1:0".parse().unwrap(), Arc::new(Mutex::new(state))).await
    }

    async fn serve(address: SocketAddr, state: Arc<Mutex<State>>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(request, Arc::clone(&state)));
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            state,
            address,
            task,
        }
    }

    /// Ends the server and its connections; its points stay.
    pub async fn stop(self) -> Stopped {
        self.task.abort();
        let _ = self.task.await;
        Stopped {
            state: self.state,
            address: self.address,
        }
    }

    pub fn location(&self) -> timeseries::influx::Location {
        format!("influxdb://{}?org={ORG}&bucket=calls", self.address)
            .parse()
            .unwrap()
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

pub struct Stopped {
    pub state: Arc<Mutex<State>>,
    pub address: SocketAddr,
}

impl Stopped {
    pub async fn start(self) -> Server {
        Server::serve(self.address, self.state).await
    }
}

/// The connection ends without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed")
    }
}

impl std::error::Error for Closed {}

type Answer = Response<Full<Bytes>>;

async fn answer(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Answer, Closed> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
    let fault = {
        let mut state = state.lock().unwrap();
        match parts.uri.path() {
            "/api/v2/write" => {
                state.requests.push(std::time::Instant::now());
                state.write_faults.pop_front()
            }
            "/api/v2/query" => state.query_faults.pop_front(),
            _ => None,
        }
    };
    match fault {
        Some(Fault::Status(status)) => return Ok(error(status, "a fault of the test")),
        Some(Fault::Foreign(status, body)) => {
            let mut response = Response::new(Full::from(body));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            return Ok(response);
        }
        Some(Fault::Body(body)) => return Ok(Response::new(Full::from(body))),
        Some(Fault::RetryAfter(status, seconds)) => {
            let mut response = error(status, "a fault of the test");
            response.headers_mut().insert("retry-after", seconds.into());
            return Ok(response);
        }
        _ => {}
    }
    let Ok(response) = respond(&parts, &body, &state);
    match fault {
        Some(Fault::Close) => Err(Closed),
        Some(Fault::Slow(time)) => {
            tokio::time::sleep(time).await;
            Ok(response)
        }
        _ => Ok(response),
    }
}

fn respond(
    parts: &hyper::http::request::Parts,
    body: &[u8],
    state: &Mutex<State>,
) -> Result<Answer, Infallible> {
    let header = |name: &str| {
        let value = parts.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    };
    let mut state = state.lock().unwrap();
    let query = parts.uri.query().unwrap_or_default();
    let parameters: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let names: Vec<&str> = parameters.keys().map(String::as_str).collect();
    let route = (parts.method.clone(), parts.uri.path());
    if route == (Method::GET, "/health") {
        return Ok(json_response(
            StatusCode::OK,
            &json!({"name": "influxdb", "message": "ready for queries and writes", "status": "pass", "checks": [], "version": "v2.7.12", "commit": "ec9dcde5d6"}),
        ));
    }
    if header("authorization") != format!("Token {TOKEN}") {
        return Ok(error(401, "unauthorized access"));
    }
    let org = parameters.get("org").map(String::as_str);
    if org.is_some_and(|org| org != ORG) {
        let message = format!("organization name \"{}\" not found", org.unwrap());
        return Ok(error(404, &message));
    }
    Ok(match (route.0, route.1, &names[..]) {
        (Method::GET, "/api/v2/orgs", ["org"]) => json_response(
            StatusCode::OK,
            &json!({"links": {"self": "/api/v2/orgs"}, "orgs": [{"links": {}, "id": "0a1b2c3d4e5f6071", "name": ORG, "description": "", "createdAt": "2024-01-01T00:00:00Z", "updatedAt": "2024-01-01T00:00:00Z"}]}),
        ),
        (Method::GET, "/api/v2/buckets", ["name", "org"]) => {
            let name = &parameters["name"];
            match state.buckets.get(name) {
                None => error(404, &format!("bucket \"{name}\" not found")),
                Some(seconds) => json_response(
                    StatusCode::OK,
                    &json!({"links": {"self": "/api/v2/buckets"}, "buckets": [bucket(name, *seconds)]}),
                ),
            }
        }
        (Method::POST, "/api/v2/buckets", []) => {
            let request: Json = serde_json::from_slice(body).unwrap();
            assert_eq!(request["orgID"], "0a1b2c3d4e5f6071");
            let name = request["name"].as_str().unwrap().to_owned();
            if !state.may_create {
                return Ok(error(
                    403,
                    "write:orgs/0a1b2c3d4e5f6071/buckets is unauthorized",
                ));
            }
            let seconds = match request["retentionRules"].as_array().unwrap().first() {
                None => 0,
                Some(rule) => {
                    assert_eq!(rule["type"], "expire");
                    rule["everySeconds"].as_u64().unwrap()
                }
            };
            let created = bucket(&name, seconds);
            state.buckets.insert(name, seconds);
            json_response(StatusCode::CREATED, &created)
        }
        (Method::POST, "/api/v2/write", ["bucket", "org", "precision"]) => {
            assert_eq!(parameters["precision"], "ns");
            assert_eq!(header("content-encoding"), "gzip");
            assert!(header("content-type").starts_with("text/plain"));
            let bucket = &parameters["bucket"];
            if !state.buckets.contains_key(bucket) {
                return Ok(error(404, &format!("bucket \"{bucket}\" not found")));
            }
            let mut lines = String::new();
            flate2::read::GzDecoder::new(body)
                .read_to_string(&mut lines)
                .unwrap();
            if state.max_body.is_some_and(|max| lines.len() > max) {
                return Ok(error(413, "unable to read data: points batch is too large"));
            }
            write(&mut state, &lines)
        }
        (Method::POST, "/api/v2/query", ["org"]) => {
            assert_eq!(header("content-type"), "application/json");
            assert_eq!(header("accept"), "application/csv");
            let request: Json = serde_json::from_slice(body).unwrap();
            assert_eq!(
                request["dialect"],
                json!({"header": true, "annotations": []})
            );
            match flux::run(request["query"].as_str().unwrap(), &state) {
                Ok(csv) => Response::builder()
                    .header("content-type", "text/csv; charset=utf-8")
                    .body(Full::from(csv))
                    .unwrap(),
                Err(message) => error(400, &message),
            }
        }
        other => panic!("InfluxDB has no {other:?}"),
    })
}

fn bucket(name: &str, seconds: u64) -> Json {
    let rules = match seconds {
        0 => json!([]),
        _ => {
            json!([{"type": "expire", "everySeconds": seconds, "shardGroupDurationSeconds": 3600}])
        }
    };
    json!({"id": "8f7e6d5c4b3a2910", "orgID": "0a1b2c3d4e5f6071", "type": "user", "name": name, "retentionRules": rules, "createdAt": "2024-01-01T00:00:00Z", "updatedAt": "2024-01-01T00:00:00Z", "links": {}, "labels": []})
}

/// Writes all points, unless a line cannot be parsed. Those with another type than their field are dropped.
fn write(state: &mut State, lines: &str) -> Answer {
    let mut points = Vec::new();
    for line in parse_lines(lines) {
        match line {
            Ok(line) => points.push(line),
            Err(cause) => return error(400, &format!("unable to parse: {cause}")),
        }
    }
    let mut conflict = None;
    state.writes.push(points.len());
    for point in points {
        let tags = point.series.tag_set.iter().flatten();
        let mut tags: Vec<_> = tags
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        tags.sort();
        let series = (point.series.measurement.to_string(), tags);
        let fields: Vec<_> = point
            .field_set
            .iter()
            .map(|(key, value)| {
                let value = match value {
                    FieldValue::F64(number) => Value::Float(*number),
                    FieldValue::I64(number) => Value::Integer(*number),
                    FieldValue::String(text) => Value::Text(text.to_string()),
                    FieldValue::Boolean(truth) => Value::Boolean(*truth),
                    FieldValue::U64(_) => panic!("the store writes no unsigned integers"),
                };
                (key.to_string(), value)
            })
            .collect();
        let is_other_type = |(key, value): &(String, Value)| {
            let mut known = state
                .points
                .iter()
                .filter(|((other, _), _)| other.0 == series.0);
            known.any(|(_, fields)| {
                let known = fields.get(key);
                known.is_some_and(|known| {
                    std::mem::discriminant(known) != std::mem::discriminant(value)
                })
            })
        };
        if let Some((key, _)) = fields.iter().find(|field| is_other_type(field)) {
            conflict = Some(key.clone());
            continue;
        }
        let time = point.timestamp.expect("the store gives each point a time");
        state
            .points
            .entry((series, time))
            .or_default()
            .extend(fields);
    }
    match conflict {
        None => Response::builder()
            .status(StatusCode::NO_CONTENT)
            .body(Full::default())
            .unwrap(),
        Some(key) => error(
            422,
            &format!(
                "failure writing points to database: partial write: field type conflict: input field \"{key}\" is another type"
            ),
        ),
    }
}

fn json_response(status: StatusCode, body: &Json) -> Answer {
    Response::builder()
        .status(status)
        .header("content-type", "application/json; charset=utf-8")
        .body(Full::from(body.to_string()))
        .unwrap()
}

/// An error with the code that belongs to its status.
fn error(status: u16, message: &str) -> Answer {
    let code = match status {
        400 => "invalid",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not found",
        413 => "request too large",
        422 => "unprocessable entity",
        429 => "too many requests",
        503 => "unavailable",
        _ => "internal error",
    };
    let status = StatusCode::from_u16(status).unwrap();
    json_response(status, &json!({"code": code, "message": message}))
}
