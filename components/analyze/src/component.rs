//! The HTTP entrance: a request to `/analyze` in, its answer out, and one record of the call before that.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::bindings::exports::wasi::http::incoming_handler;
use crate::bindings::speech::pipeline::frontend::{Hint, Recording};
use crate::bindings::speech::pipeline::inference::Timestamps;
use crate::bindings::speech::pipeline::recorder::{self, Call, Entrance};
use crate::bindings::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, InputStream, Method, OutgoingBody,
    OutgoingResponse, ResponseOutparam, http_error_code,
};
use crate::bindings::wasi::io::streams::StreamError;
use crate::body::{self, Broken, Kind, Sink, Source};
use crate::failure::{Code, Failure};
use crate::options::Options;
use crate::transcribe::{Known, transcribe};
use crate::{answer, arrival};

/// Bytes that one read of the body asks for.
const READ_SIZE: u64 = 64 * 1024;

struct Component;

crate::bindings::export!(Component with_types_in crate::bindings);

impl incoming_handler::Guest for Component {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let started = Instant::now();
        let arrived = header(&request, "x-request-start").and_then(|value| arrival::parse(&value));
        let mut known = Known::default();
        let result = serve(request, &mut known);

        // Before the answer: a call that was answered is on record.
        let call = Call {
            entrance: Entrance::Http,
            status: result
                .as_ref()
                .map_or_else(|failure| failure.code.as_str(), |_| "ok")
                .to_owned(),
            latency: latency(started, arrived),
            audio_length: known.audio_length,
            model: known.model,
            language: known.language,
        };
        if let Err(recorder::Error::Unavailable(text)) = recorder::record_call(&call) {
            eprintln!("the call could not be recorded: {text}");
        }
        send(response_out, result);
    }
}

/// The body of the answer to a request.
fn serve(request: IncomingRequest, known: &mut Known) -> Result<String, Failure> {
    if !matches!(request.method(), Method::Post) {
        return Err(Failure::new(
            Code::MethodNotAllowed,
            "use POST, with the recording as the body or in a form",
        ));
    }
    let query = Options::from_query(&request.path_with_query().unwrap_or_default())?;
    let kind = Kind::of(header(&request, "content-type").as_deref())?;
    let mut upload = Upload(None);
    let form = body::read(RequestBody::of(&request)?, kind, &mut upload)?;
    let options = form.or(query);
    let timestamps = options.timestamps.unwrap_or(Timestamps::None);
    // `read` begins a recording or fails.
    let recording = upload
        .0
        .ok_or_else(|| Failure::bad_request("the request has no recording: send one"))?;
    let segments = transcribe(recording, options, known)?;
    Ok(answer::transcription(
        &segments,
        timestamps,
        known.language.as_deref(),
    ))
}

fn header(request: &IncomingRequest, name: &str) -> Option<String> {
    let value = request.headers().get(name).into_iter().next()?;
    String::from_utf8(value).ok()
}

/// Seconds from the request's arrival until now. The host knows the arrival best; else it is when the handler started.
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

/// The recording, once it begins.
struct Upload(Option<Recording>);

impl Sink for Upload {
    fn begin(&mut self, media_type: Option<String>, file_name: Option<String>) {
        self.0 = Some(Recording::new(&Hint {
            media_type,
            file_name,
        }));
    }

    fn append(&mut self, bytes: &[u8]) {
        if let Some(recording) = &self.0 {
            recording.append(bytes);
        }
    }
}

struct RequestBody {
    // Dropped in this order: the stream is a child of the body.
    stream: InputStream,
    _body: IncomingBody,
}

impl RequestBody {
    fn of(request: &IncomingRequest) -> Result<Self, Failure> {
        let taken = |()| Failure::new(Code::Internal, "the body of the request is already taken");
        let body = request.consume().map_err(taken)?;
        let stream = body.stream().map_err(taken)?;
        Ok(Self {
            stream,
            _body: body,
        })
    }
}

impl Source for RequestBody {
    fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        match self.stream.blocking_read(READ_SIZE) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(StreamError::Closed) => Ok(None),
            Err(StreamError::LastOperationFailed(error)) => match http_error_code(&error) {
                Some(ErrorCode::HttpRequestBodySize(_)) => Err(Broken::TooLarge),
                _ => Err(Broken::Incomplete),
            },
        }
    }
}

/// Send the answer. A client that has gone away is no error: nobody is left to tell.
fn send(out: ResponseOutparam, result: Result<String, Failure>) {
    let (status, body, retry_after, allow) = match result {
        Ok(body) => (200, body, None, None),
        Err(failure) => {
            let allow = (failure.code == Code::MethodNotAllowed).then(|| "POST".to_owned());
            let retry_after = failure.retry_after.map(|seconds| seconds.to_string());
            (
                failure.code.http_status(),
                answer::error(&failure),
                retry_after,
                allow,
            )
        }
    };
    let fields = Fields::new();
    for (name, value) in [
        ("content-type", Some("application/json".to_owned())),
        ("content-length", Some(body.len().to_string())),
        ("retry-after", retry_after),
        ("allow", allow),
    ] {
        if let Some(value) = value {
            fields
                .append(name, value.as_bytes())
                .expect("names and values are our own and valid");
        }
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
