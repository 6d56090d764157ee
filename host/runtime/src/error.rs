//! Errors that clients see: always JSON, with a stable code and advice on what to do next.

use std::time::Duration;

use http::StatusCode;

/// The host's own error codes, each with its HTTP status. Components return codes of their own in the same form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The request cannot be understood.
    BadRequest,
    /// The admin interface needs a token.
    Unauthorized,
    /// The token is wrong.
    Forbidden,
    /// No route matches the path, or the component does not exist.
    NotFound,
    /// The client stopped sending.
    RequestTimeout,
    /// The body exceeds the component's limit.
    BodyTooLarge,
    /// The method, path and headers exceed their limit.
    HeadersTooLarge,
    /// The client has as many requests in flight as one client may.
    TooManyRequests,
    /// A component to be deployed cannot be served.
    Refused,
    /// The host failed; the reason is in the log.
    Internal,
    /// The component trapped or could not be started.
    ComponentTrap,
    /// The component returned an error code instead of a response.
    ComponentError,
    /// The component exceeded its memory limit.
    MemoryLimit,
    /// Too many requests are running and waiting, or the host is about to stop.
    Overloaded,
    /// The request exceeded its wall-clock or CPU time.
    Deadline,
}

impl Code {
    /// Returns the code as written in the response, and the response's status.
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

/// A failed request.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The kind of failure.
    pub code: Code,
    /// What happened and what to do, for people.
    pub message: String,
    /// How long to wait before a retry.
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

    /// Formats the failure as `{"error":{"code":"…","message":"…"}}`.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::json!({"error": {"code": self.code.parts().0, "message": self.message}})
            .to_string()
    }
}
