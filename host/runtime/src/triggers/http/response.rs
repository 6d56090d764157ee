//! Responses of the host itself, always JSON.

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::response_body::ResponseBody;
use crate::error::Failure;

/// Converts a failure to a response.
pub(crate) fn to_response(failure: &Failure) -> Response<ResponseBody> {
    let mut response = json_response(failure.code.parts().1, failure.json());
    if let Some(after) = failure.retry_after {
        let seconds = HeaderValue::from(after.as_secs().max(1));
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

pub(crate) fn json_response(status: StatusCode, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::host(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
