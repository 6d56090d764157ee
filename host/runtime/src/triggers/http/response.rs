//! Responses of the host itself, always JSON.

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
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

/// Returns the response to a request with another method than those `allowed`.
pub(crate) fn method_not_allowed(message: &str, allowed: &'static str) -> Response<ResponseBody> {
    let error = serde_json::json!({"error": {"code": "method_not_allowed", "message": message}});
    let mut response = json_response(StatusCode::METHOD_NOT_ALLOWED, error.to_string());
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(ALLOW, allowed);
    response
}
