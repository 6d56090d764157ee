//! The headers of a request that its job keeps.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

/// Headers of a request that its job keeps.
const KEPT: [&str; 3] = ["content-type", "traceparent", "tracestate"];

/// Returns the headers that a job keeps, as text.
pub(super) fn kept(headers: &HeaderMap) -> Vec<(String, String)> {
    let kept = headers
        .iter()
        .filter(|(name, _)| KEPT.contains(&name.as_str()));
    kept.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

/// Returns the headers of the request of a job.
pub(super) fn restored(headers: &[(String, String)]) -> HeaderMap {
    let mut request = queue::http_headers(headers);
    request
        .entry(CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("application/octet-stream"));
    request
}
