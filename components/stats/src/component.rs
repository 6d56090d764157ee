//! The two exports: `recorder`, which writes to the store, and the handler of `/stats`, which reads from it.

mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({ world: "stats", path: "../../wit", generate_all });
}

use bindings::exports::speech::pipeline::recorder;
use bindings::exports::wasi::http::incoming_handler;
use bindings::speech::pipeline::timeseries::{self, Aggregation, Point, Query, Value};
use bindings::wasi::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

use crate::{AUDIO_LENGTH, LATENCY, MEASUREMENT, OUTCOME, Outcome, Question, Refusal, Summary};

struct Component;

bindings::export!(Component with_types_in bindings);

impl recorder::Guest for Component {
    fn record_call(call: recorder::Call) -> Result<(), recorder::Error> {
        let entrance = match call.entrance {
            recorder::Entrance::Http => "http",
            recorder::Entrance::Message => "message",
        };
        let outcome = Outcome::of_status(&call.status).tag();
        let known = [("model", call.model), ("language", call.language)];
        let tags = [
            ("entrance", entrance.to_owned()),
            ("status", call.status),
            (OUTCOME, outcome.to_owned()),
        ]
        .into_iter()
        .chain(
            known
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        let fields = vec![
            (LATENCY.to_owned(), Value::Float(call.latency)),
            (AUDIO_LENGTH.to_owned(), Value::Float(call.audio_length)),
        ];
        let point = Point {
            measurement: MEASUREMENT.to_owned(),
            time: None,
            tags,
            fields,
        };
        timeseries::write(&[point]).map_err(|error| recorder::Error::Unavailable(reason(error)))
    }
}

impl incoming_handler::Guest for Component {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let method = method_name(&request.method());
        let path_with_query = request.path_with_query().unwrap_or_default();
        let (status, body) = match Question::parse(&method, &path_with_query) {
            Ok(question) => match summarize(question.outcome) {
                Ok(summary) => (200, summary.to_json()),
                Err(error) => {
                    let text = format!(
                        "the record of calls cannot be read: {}; try again later",
                        reason(error)
                    );
                    (503, error_body("unavailable", &text))
                }
            },
            Err(Refusal::Method) => (
                405,
                error_body("method_not_allowed", "use GET or POST for the statistics"),
            ),
            Err(Refusal::Query(text)) => (400, error_body("bad_request", &text)),
        };
        let mut headers = vec![("content-type", "application/json".to_owned())];
        match status {
            405 => headers.push(("allow", "GET, HEAD, POST".to_owned())),
            503 => headers.push(("retry-after", RETRY_AFTER.to_owned())),
            _ => {}
        }
        answer(response_out, status, headers, &body);
    }
}

/// Seconds after which a store that cannot be reached is worth another try.
const RETRY_AFTER: &str = "5";

fn summarize(outcome: Outcome) -> Result<Summary, timeseries::Error> {
    let aggregate = |field: &str, aggregation| {
        timeseries::aggregate(&Query {
            measurement: MEASUREMENT.to_owned(),
            field: field.to_owned(),
            aggregation,
            start: None,
            stop: None,
            tags: vec![(OUTCOME.to_owned(), outcome.tag().to_owned())],
        })
    };
    let calls = aggregate(LATENCY, Aggregation::Count)?.unwrap_or(0.0);
    let median_latency = aggregate(LATENCY, Aggregation::Median)?;
    let mean_audio_length = aggregate(AUDIO_LENGTH, Aggregation::Mean)?;
    Ok(Summary::new(calls, median_latency, mean_audio_length))
}

fn reason(error: timeseries::Error) -> String {
    match error {
        timeseries::Error::Invalid(text) | timeseries::Error::Unavailable(text) => text,
    }
}

fn error_body(code: &str, message: &str) -> String {
    serde_json::json!({ "error": { "code": code, "message": message } }).to_string()
}

fn method_name(method: &Method) -> String {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
    .to_owned()
}

/// Send the answer. A client that has gone away is no error: nobody is left to tell.
fn answer(out: ResponseOutparam, status: u16, headers: Vec<(&str, String)>, body: &str) {
    let fields = Fields::new();
    for (name, value) in headers
        .into_iter()
        .chain([("content-length", body.len().to_string())])
    {
        fields
            .append(name, value.as_bytes())
            .expect("names and values are our own and valid");
    }
    let response = OutgoingResponse::new(fields);
    response
        .set_status_code(status)
        .expect("the status codes are our own and valid");
    let outgoing = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = outgoing.write().expect("the stream is taken once");
    // The most that one call may write.
    for chunk in body.as_bytes().chunks(4096) {
        if stream.blocking_write_and_flush(chunk).is_err() {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(outgoing, None);
}
