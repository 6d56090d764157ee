//! Answers that the host gives itself: JSON, always.

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::answer_body::AnswerBody;
use crate::error::Failure;

/// A failure as an answer.
pub(crate) fn to_answer(failure: &Failure) -> Response<AnswerBody> {
    let mut response = json_answer(failure.code.parts().1, failure.json());
    if let Some(after) = failure.retry_after {
        let seconds = HeaderValue::from(after.as_secs().max(1));
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

pub(crate) fn json_answer(status: StatusCode, text: String) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::host(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
