//! The exports: `calls`, which writes to the store, and the handler of `/stats`, which reads from it.

use shared::bindings::wasi::http::types::{IncomingRequest, Method, ResponseOutparam};
use shared::failure::{Code, Failure};
use shared::http::send;

use std::time::SystemTime;

use crate::{AUDIO_LENGTH, LANGUAGE, LATENCY, MEASUREMENT, MODEL, OUTCOME};
use crate::{Outcome, Selection, Summary, requested};

mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        world: "stats",
        path: "../../wit",
        generate_all,
        with: { "wasi:http/types@0.2.12": shared::bindings::wasi::http::types },
    });
}

use bindings::exports::speech::pipeline::calls;
use bindings::exports::wasi::http::incoming_handler;
use bindings::speech::pipeline::timeseries::{self, Aggregation, Point, Query, Value};

struct Component;

bindings::export!(Component with_types_in bindings);

impl calls::Guest for Component {
    fn record_call(call: calls::Call) -> Result<(), calls::Error> {
        let trigger = match call.trigger {
            calls::Trigger::Http => "http",
            calls::Trigger::Message => "message",
        };
        let outcome = Outcome::of_status(&call.status).tag();
        let known = [(MODEL, call.model), (LANGUAGE, call.language)];
        let tags = [
            ("trigger", trigger.to_owned()),
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
        timeseries::write(&[point]).map_err(|error| calls::Error::Unavailable(reason(error)))
    }
}

impl incoming_handler::Guest for Component {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let method = method_name(&request.method());
        let path_with_query = request.path_with_query().unwrap_or_default();
        let summary = requested(&method, &path_with_query).and_then(|selection| {
            let summary = summarize(&selection).map_err(|error| Failure {
                retry_after: Some(RETRY_AFTER),
                ..Failure::new(
                    Code::Unavailable,
                    format!(
                        "the record of calls cannot be read: {}; try again later",
                        reason(error)
                    ),
                )
            })?;
            Ok(summary.to_json())
        });
        send(response_out, summary, "GET, HEAD, POST");
    }
}

/// Seconds after which to retry when the store is unavailable.
const RETRY_AFTER: u32 = 5;

fn summarize(selection: &Selection) -> Result<Summary, timeseries::Error> {
    let mut tags = vec![(OUTCOME.to_owned(), selection.outcome.tag().to_owned())];
    for (key, value) in [(MODEL, &selection.model), (LANGUAGE, &selection.language)] {
        tags.extend(value.clone().map(|value| (key.to_owned(), value)));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let start = selection.since.map(|since| {
        let start = now.unwrap_or_default().saturating_sub(since);
        u64::try_from(start.as_nanos()).unwrap_or(u64::MAX)
    });
    let aggregate = |field: &str, aggregation| {
        timeseries::aggregate(&Query {
            measurement: MEASUREMENT.to_owned(),
            field: field.to_owned(),
            aggregation,
            start,
            stop: None,
            tags: tags.clone(),
        })
    };
    let calls = aggregate(LATENCY, Aggregation::Count)?.unwrap_or(0.0);
    let median_latency = aggregate(LATENCY, Aggregation::Median)?;
    let mean_audio_length = aggregate(AUDIO_LENGTH, Aggregation::Mean)?;
    let mut summary = Summary::new(calls, median_latency, mean_audio_length);
    for (name, share) in &selection.percentiles {
        summary.add_percentile(name, aggregate(LATENCY, Aggregation::Quantile(*share))?);
    }
    Ok(summary)
}

fn reason(error: timeseries::Error) -> String {
    match error {
        timeseries::Error::Invalid(text) | timeseries::Error::Unavailable(text) => text,
    }
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
