//! The handlers of `/analyze` and of messages: they transcribe the recording, record the call, and respond.

use std::time::{Duration, Instant, SystemTime};

use shared::bindings::speech::pipeline::features::Recording;
use shared::bindings::speech::pipeline::inference::Timestamps;
use shared::bindings::wasi::http::types::{IncomingRequest, Method, ResponseOutparam};
use shared::failure::{Code, Failure};
use shared::form::Kind;
use shared::http::{header, read_recording, send};
use shared::recording::{self, Whole};
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
use bindings::exports::wasmcloud::messaging::handler as message_handler;
use bindings::speech::pipeline::calls::{self, Call, Trigger};
use bindings::speech::pipeline::message;
use bindings::wasmcloud::messaging::consumer;
use bindings::wasmcloud::messaging::types::BrokerMessage;

struct Component;

bindings::export!(Component with_types_in bindings);

impl incoming_handler::Guest for Component {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let arrived = header(&request, "x-request-start");
        let mut call = Running::start(Trigger::Http, arrived.as_deref());
        let result = serve(&request, &mut call.info);
        // Before the response, so that every call with a response is on record.
        call.record(&result);
        send(response_out, result, "POST");
    }
}

impl message_handler::Guest for Component {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        let Some(reply_to) = message.reply_to else {
            return Err(
                "the message does not say where its transcription goes: send it with `nats request`"
                    .into(),
            );
        };
        let headers = message::headers();
        let mut call = Running::start(Trigger::Message, value(&headers, "x-request-start"));
        let result = handle(&headers, message.body, &mut call.info);
        call.record(&result);
        let body = result.unwrap_or_else(|failure| failure.json());
        consumer::publish(&BrokerMessage {
            subject: reply_to,
            body: body.into(),
            reply_to: None,
        })
    }
}

/// A call that is not on record yet.
struct Running {
    trigger: Trigger,
    started: Instant,
    /// When it arrived, since 1970.
    arrived: Option<Duration>,
    info: CallInfo,
}

impl Running {
    fn start(trigger: Trigger, arrived: Option<&str>) -> Self {
        Self {
            trigger,
            started: Instant::now(),
            arrived: arrived.and_then(arrival::parse),
            info: CallInfo::default(),
        }
    }

    fn record(self, result: &Result<String, Failure>) {
        let call = Call {
            trigger: self.trigger,
            status: result
                .as_ref()
                .map_or_else(|failure| failure.code.as_str(), |_| "ok")
                .to_owned(),
            latency: latency(self.started, self.arrived),
            audio_length: self.info.audio_length,
            model: self.info.model,
            language: self.info.language,
        };
        if let Err(calls::Error::Unavailable(text)) = calls::record_call(&call) {
            eprintln!("the call could not be recorded: {text}");
        }
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
    transcribed(recording, form.or(query), info)
}

/// The body of the answer to a message.
fn handle(
    headers: &[(String, String)],
    body: Vec<u8>,
    info: &mut CallInfo,
) -> Result<String, Failure> {
    let options = Options::from_headers(headers)?;
    let kind = Kind::of(value(headers, "content-type"))?;
    let (recording, form) = recording::read::<Options>(Whole::new(body), kind)?;
    transcribed(recording, form.or(options), info)
}

/// Transcribes a recording, and returns the answer.
fn transcribed(
    recording: Recording,
    options: Options,
    info: &mut CallInfo,
) -> Result<String, Failure> {
    let timestamps = options.timestamps.unwrap_or(Timestamps::None);
    let segments = transcribe(recording, |defaults| options.apply_to(defaults), info)?;
    Ok(answer::transcription(
        &segments,
        timestamps,
        info.language.as_deref(),
    ))
}

/// The value of a message's header, whatever the case of its name.
fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut headers = headers.iter();
    headers
        .find(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
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
