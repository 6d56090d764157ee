//! Responses to the requests of jobs, as their records keep them.

use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use queue::jobs;

use crate::triggers::http::response_body::ResponseBody;

/// Maximum size of a response, in bytes.
const MAX_RESPONSE: usize = 64 << 20;

/// Headers that belong to a connection or to the length of a body.
const OF_CONNECTION: [HeaderName; 6] = [
    CONNECTION,
    CONTENT_LENGTH,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Returns the headers that go with a request or a response from one host to another, as text.
pub(super) fn headers_to_keep(headers: &HeaderMap) -> Vec<(String, String)> {
    let kept = headers
        .iter()
        .filter(|(name, _)| !OF_CONNECTION.contains(name));
    kept.filter_map(|(name, value)| {
        let value = std::str::from_utf8(value.as_bytes()).ok()?;
        Some((name.to_string(), value.to_owned()))
    })
    .collect()
}

/// Reads a component's response. One that cannot be kept is replaced by an error.
pub(super) async fn read(response: Response<ResponseBody>) -> jobs::Response {
    let (parts, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "component_trap",
                "the component's response is incomplete",
            );
        };
        bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
        if bytes.len() > MAX_RESPONSE {
            return error(
                StatusCode::NOT_IMPLEMENTED,
                "response_too_large",
                "the component's response has more than the 64 MiB that are kept",
            );
        }
    }
    match String::from_utf8(bytes.into()) {
        Ok(body) => jobs::Response {
            status: parts.status.as_u16(),
            headers: headers_to_keep(&parts.headers),
            body: Some(body),
        },
        Err(_) => error(
            StatusCode::NOT_IMPLEMENTED,
            "response_not_text",
            "the component's response is not UTF-8; only text is kept",
        ),
    }
}

/// Returns an error of the host.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> jobs::Response {
    let error = serde_json::json!({"error": {"code": code, "message": message}});
    jobs::Response {
        status: status.as_u16(),
        headers: vec![("content-type".into(), "application/json".into())],
        body: Some(error.to_string()),
    }
}

/// Returns the response as a client gets it. `long` is its body, if that is not in the record.
pub(super) fn to_http(kept: &jobs::Response, long: Option<String>) -> Response<ResponseBody> {
    let body = kept.body.clone().or(long).unwrap_or_default();
    let mut response = Response::new(ResponseBody::host(body));
    *response.status_mut() =
        StatusCode::from_u16(kept.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = queue::http_headers(&kept.headers);
    response
}

/// Headers of a request that a job keeps if nobody waits for it.
const KEPT: [&str; 3] = ["content-type", "traceparent", "tracestate"];

/// Returns the headers of a request that nobody waits for, as text.
pub(super) fn headers_of_job(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut kept = headers_to_keep(headers);
    kept.retain(|(name, _)| KEPT.contains(&name.as_str()));
    if !headers.contains_key("content-type") {
        kept.push(("content-type".into(), "application/octet-stream".into()));
    }
    kept
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::headers_to_keep;

    #[test]
    fn headers_of_the_connection_are_left_out_and_all_others_survive() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close"),
            ("content-length", "3"),
            ("x-name", "caf\u{e9}"),
            ("x-name", "second"),
        ] {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(name, value);
        }
        let kept = queue::http_headers(&headers_to_keep(&headers));
        headers.remove("connection");
        headers.remove("content-length");
        assert_eq!(kept, headers);
    }
}
