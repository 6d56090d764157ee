//! A message.

use async_nats::HeaderMap as NatsHeaders;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The subject that it was sent to.
    pub subject: String,
    /// The subject for answers.
    pub reply_to: Option<String>,
    /// Its headers. Names are as they were sent: case matters.
    pub headers: Vec<(String, String)>,
    /// Whether it had more than 100 headers, or more than 64 KiB of them: they are dropped.
    pub has_too_many_headers: bool,
    /// Its body.
    pub body: Bytes,
}

/// Maximum number of values of headers.
const MAX_HEADERS: usize = 100;
/// Maximum size of all names and values of headers together, in bytes.
const MAX_HEADER_BYTES: usize = 64 << 10;

impl From<async_nats::Message> for Message {
    fn from(message: async_nats::Message) -> Self {
        let headers = message.headers.iter().flat_map(NatsHeaders::iter);
        let headers = headers.flat_map(|(name, values)| {
            let name: &str = name.as_ref();
            values.iter().map(move |value| (name, value.as_str()))
        });
        let mut bytes = 0;
        let mut copied = Vec::new();
        let mut has_too_many_headers = false;
        for (name, value) in headers {
            bytes += name.len() + value.len();
            if copied.len() == MAX_HEADERS || bytes > MAX_HEADER_BYTES {
                has_too_many_headers = true;
                copied = Vec::new();
                break;
            }
            copied.push((name.to_owned(), value.to_owned()));
        }
        Self {
            headers: copied,
            has_too_many_headers,
            subject: message.subject.into_string(),
            reply_to: message.reply.map(async_nats::Subject::into_string),
            body: message.payload,
        }
    }
}

impl Message {
    /// Returns a message without headers.
    #[must_use]
    pub fn new(subject: String, body: Bytes) -> Self {
        Self {
            subject,
            reply_to: None,
            headers: Vec::new(),
            has_too_many_headers: false,
            body,
        }
    }
}

/// Returns those headers that HTTP could have, too.
#[must_use]
pub fn http_headers(headers: &[(String, String)]) -> HeaderMap {
    let headers = headers.iter().filter_map(|(name, value)| {
        let name = HeaderName::try_from(name).ok()?;
        Some((name, HeaderValue::try_from(value).ok()?))
    });
    headers.collect()
}

/// Returns headers of HTTP as those of NATS.
pub(crate) fn nats_headers(headers: &HeaderMap) -> NatsHeaders {
    let mut converted = NatsHeaders::new();
    for (name, value) in headers {
        if let Ok(value) = value.to_str() {
            converted.append(name.as_str(), value);
        }
    }
    converted
}
