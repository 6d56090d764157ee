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
    /// Its body.
    pub body: Bytes,
}

impl From<async_nats::Message> for Message {
    fn from(message: async_nats::Message) -> Self {
        let headers = message.headers.iter().flat_map(NatsHeaders::iter);
        let headers = headers.flat_map(|(name, values)| {
            let values = values.iter();
            values.map(|value| (name.to_string(), value.as_str().to_owned()))
        });
        Self {
            headers: headers.collect(),
            subject: message.subject.into_string(),
            reply_to: message.reply.map(async_nats::Subject::into_string),
            body: message.payload,
        }
    }
}

impl Message {
    /// Returns the value of a header, whatever its case; the first one if there are several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns those headers that HTTP could have, too.
    #[must_use]
    pub fn http_headers(&self) -> HeaderMap {
        let headers = self.headers.iter();
        headers
            .filter_map(|(name, value)| {
                Some((
                    HeaderName::try_from(name).ok()?,
                    HeaderValue::try_from(value).ok()?,
                ))
            })
            .collect()
    }
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
