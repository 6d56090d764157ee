//! The errors that a client sees: always JSON, always with a stable code and what to do next.

use std::time::Duration;

use http::StatusCode;

/// The host's own error codes, each with its HTTP status. Components answer with codes of theirs in the same form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The request cannot be understood.
    BadRequest,
    /// The admin interface needs a token.
    Unauthorized,
    /// The token is not the right one.
    Forbidden,
    /// No route matches the path, or there is no such component.
    NotFound,
    /// The client stopped sending.
    RequestTimeout,
    /// The body is over the component's limit.
    BodyTooLarge,
    /// The method, path and headers are over their limit.
    HeadersTooLarge,
    /// One client has more requests under way than its share.
    TooManyRequests,
    /// A component that was to be deployed cannot be served.
    Refused,
    /// The host is at fault; the reason is in the log.
    Internal,
    /// The component trapped, or could not be started.
    ComponentTrap,
    /// The component gave an error code in place of a response.
    ComponentError,
    /// The component needed more memory than it may have.
    MemoryLimit,
    /// Too many requests run and wait already, or the host is about to stop.
    Overloaded,
    /// The wall-clock or CPU time of the request is over.
    Deadline,
}

impl Code {
    /// The code as it stands in the answer, and the answer's status.
    #[must_use]
    pub fn parts(self) -> (&'static str, StatusCode) {
        match self {
            Code::BadRequest => ("bad_request", StatusCode::BAD_REQUEST),
            Code::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED),
            Code::Forbidden => ("forbidden", StatusCode::FORBIDDEN),
            Code::Refused => ("refused", StatusCode::UNPROCESSABLE_ENTITY),
            Code::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
            Code::NotFound => ("not_found", StatusCode::NOT_FOUND),
            Code::RequestTimeout => ("request_timeout", StatusCode::REQUEST_TIMEOUT),
            Code::BodyTooLarge => ("body_too_large", StatusCode::PAYLOAD_TOO_LARGE),
            Code::HeadersTooLarge => (
                "headers_too_large",
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ),
            Code::TooManyRequests => ("too_many_requests", StatusCode::TOO_MANY_REQUESTS),
            Code::ComponentTrap => ("component_trap", StatusCode::INTERNAL_SERVER_ERROR),
            Code::ComponentError => ("component_error", StatusCode::INTERNAL_SERVER_ERROR),
            Code::MemoryLimit => ("memory_limit", StatusCode::INTERNAL_SERVER_ERROR),
            Code::Overloaded => ("overloaded", StatusCode::SERVICE_UNAVAILABLE),
            Code::Deadline => ("deadline_exceeded", StatusCode::GATEWAY_TIMEOUT),
        }
    }
}

/// One failed request.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What kind of failure.
    pub code: Code,
    /// For people: what happened and what to do.
    pub message: String,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: String) -> Self {
        Self {
            code,
            message,
            retry_after: None,
        }
    }

    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// `{"error":{"code":"…","message":"…"}}`.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::json!({"error": {"code": self.code.parts().0, "message": self.message}})
            .to_string()
    }
}
