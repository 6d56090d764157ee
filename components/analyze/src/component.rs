//! The handler of `/analyze`: transcribes the recording, records the call, and responds.

use std::time::{Duration, Instant, SystemTime};

use shared::bindings::speech::pipeline::inference::Timestamps;
use shared::bindings::wasi::http::types::{IncomingRequest, Method, ResponseOutparam};
use shared::failure::{Code, Failure};
use shared::http::{header, read_recording, send};
use shared::{CallInfo, arrival, transcribe};

use crate::answer;
use crate::options::Options;

mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        world: "analyze",
        path: "../../wit",
        generate_all,
        with: {
            "speech:pipeline/inference@0.1.0": shared::bindings::speech::pipeline::inference,
            "speech:pipeline/features@0.1.0": shared::bindings::speech::pipeline::features,
            "wasi:http/types@0.2.12": shared::bindings::wasi::http::types,
        },
    });
}

use bindings::exports::wasi::http::incoming_handler;
use bindings::speech::pipeline::calls::{self, Call, Trigger};

struct Component;

bindings::export!(Component with_types_in bindings);

impl incoming_handler::Guest for Component {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let started = Instant::now();
        let arrived = header(&request, "x-request-start").and_then(|value| arrival::parse(&value));
        let mut info = CallInfo::default();
        let result = serve(&request, &mut info);

        // Before the response, so that every call with a response is on record.
        let call = Call {
            trigger: Trigger::Http,
            status: result
                .as_ref()
                .map_or_else(|failure| failure.code.as_str(), |_| "ok")
                .to_owned(),
            latency: latency(started, arrived),
            audio_length: info.audio_length,
            model: info.model,
            language: info.language,
        };
        if let Err(calls::Error::Unavailable(text)) = calls::record_call(&call) {
            eprintln!("the call could not be recorded: {text}");
        }
        send(response_out, result, "POST");
    }
}

/// The response body for a request.
fn serve(request: &IncomingRequest, info: &mut CallInfo) -> Result<String, Failure> {
    if !matches!(request.method(), Method::Post) {
        return Err(Failure::new(
            Code::MethodNotAllowed,
            "use POST, with the recording as the body or in a form",
        ));
    }
    let query = Options::from_query(&request.path_with_query().unwrap_or_default())?;
    let (recording, form) = read_recording::<Options>(request)?;
    let options = form.or(query);
    let timestamps = options.timestamps.unwrap_or(Timestamps::None);
    let segments = transcribe(recording, |defaults| options.apply_to(defaults), info)?;
    Ok(answer::transcription(
        &segments,
        timestamps,
        info.language.as_deref(),
    ))
}

/// Seconds since the request arrived, as stated by the host; if unknown, since the handler started.
fn latency(started: Instant, arrived: Option<Duration>) -> f64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok();
    let since_arrival = now
        .zip(arrived)
        .and_then(|(now, arrived)| now.checked_sub(arrived));
    since_arrival
        .unwrap_or_else(|| started.elapsed())
        .as_secs_f64()
}
