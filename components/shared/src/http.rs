//! Requests and responses of `wasi:http`.

use bytes::Bytes;

use crate::bindings::speech::pipeline::features::Recording;
use crate::bindings::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, InputStream, OutgoingBody, OutgoingResponse,
    ResponseOutparam, http_error_code,
};
use crate::bindings::wasi::io::streams::StreamError;
use crate::failure::{Code, Failure};
use crate::form::{Broken, Kind, Options, Source};
use crate::recording;

/// Bytes per read of the body.
const READ_SIZE: u64 = 64 * 1024;

/// The value of a header, if it is text.
pub fn header(request: &IncomingRequest, name: &str) -> Option<String> {
    let value = request.headers().get(name).into_iter().next()?;
    String::from_utf8(value).ok()
}

/// Reads the recording of a request, and the options of its form.
///
/// # Errors
/// [`Failure`] if there is no recording, or the body cannot be read.
pub fn read_recording<O: Options>(request: &IncomingRequest) -> Result<(Recording, O), Failure> {
    let kind = Kind::of(header(request, "content-type").as_deref())?;
    recording::read(RequestBody::of(request)?, kind)
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

/// Sends a JSON response. `allowed`: the methods that the handler supports. A disconnected client is not an error.
pub fn send(out: ResponseOutparam, result: Result<String, Failure>, allowed: &str) {
    let (status, body, retry_after, allow) = match result {
        Ok(body) => (200, body, None, None),
        Err(failure) => {
            let allow = (failure.code == Code::MethodNotAllowed).then(|| allowed.to_owned());
            let retry_after = failure.retry_after.map(|seconds| seconds.to_string());
            let status = failure.code.http_status();
            (status, failure.json(), retry_after, allow)
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
    // 4096 bytes is the maximum per call.
    for chunk in body.as_bytes().chunks(4096) {
        if stream.blocking_write_and_flush(chunk).is_err() {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(outgoing, None);
}
