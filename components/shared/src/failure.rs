//! Request failures and their error responses.

use crate::bindings::speech::pipeline::{features, inference};

/// The stable, machine-readable code of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The request or an option is malformed.
    BadRequest,
    /// The body was truncated.
    IncompleteBody,
    /// The handler does not support the method.
    MethodNotAllowed,
    /// The body is larger than the host allows.
    BodyTooLarge,
    /// The recording is longer than allowed.
    AudioTooLong,
    /// Not audio, or an unsupported codec.
    UnsupportedMedia,
    /// Audio that cannot be decoded, or has no samples.
    UndecodableAudio,
    /// Too many transcriptions at the moment.
    Overloaded,
    /// A required service cannot be reached.
    Unavailable,
    /// Server error.
    Internal,
}

impl Code {
    /// The code as used in responses and in the record of calls.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::IncompleteBody => "incomplete_body",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooLarge => "body_too_large",
            Self::AudioTooLong => "audio_too_long",
            Self::UnsupportedMedia => "unsupported_media",
            Self::UndecodableAudio => "undecodable_audio",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status of the response.
    pub fn http_status(self) -> u16 {
        match self {
            Self::BadRequest | Self::IncompleteBody => 400,
            Self::MethodNotAllowed => 405,
            Self::BodyTooLarge | Self::AudioTooLong => 413,
            Self::UnsupportedMedia => 415,
            Self::UndecodableAudio => 422,
            Self::Overloaded | Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }
}

/// Why a request fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Machine-readable.
    pub code: Code,
    /// Human-readable: what is wrong, and what to do next.
    pub message: String,
    /// Seconds after which to retry; `None` if retrying is pointless.
    pub retry_after: Option<u32>,
}

impl Failure {
    /// A failure that retrying does not fix.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// `{"error":{"code":"…","message":"…"}}`.
    pub fn json(&self) -> String {
        serde_json::json!({"error": {"code": self.code.as_str(), "message": self.message}})
            .to_string()
    }

    /// A malformed request.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }
}

impl From<features::Error> for Failure {
    fn from(error: features::Error) -> Self {
        use features::Error;
        let (code, message) = match error {
            Error::NotAudio(text) | Error::UnsupportedCodec(text) => (Code::UnsupportedMedia, text),
            Error::Corrupt(text) | Error::Empty(text) => (Code::UndecodableAudio, text),
            // The number of mel bins is the model's, not the sender's.
            Error::InvalidOption(text) => (
                Code::Internal,
                format!("the model and the component `audio` are incompatible: {text}"),
            ),
        };
        Self::new(code, message)
    }
}

impl From<inference::Error> for Failure {
    fn from(error: inference::Error) -> Self {
        use inference::Error;
        match error {
            Error::UnsupportedLanguage(text)
            | Error::UnsupportedOption(text)
            | Error::InvalidOption(text) => Self::bad_request(text),
            Error::Overloaded(seconds) => Self {
                code: Code::Overloaded,
                message: format!("too many recordings are waiting: try again in {seconds} s"),
                retry_after: Some(seconds),
            },
            // The sender chooses neither the model nor the frames nor the order of the calls.
            Error::AccessDenied(text)
            | Error::InvalidFrames(text)
            | Error::InvalidState(text)
            | Error::Internal(text) => Self::new(
                Code::Internal,
                format!("the recording could not be transcribed: {text}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        "the text".to_owned()
    }

    #[test]
    fn audio_errors_are_client_errors_except_for_the_mel_bins() {
        use features::Error;
        for (error, status, code) in [
            (Error::NotAudio(text()), 415, "unsupported_media"),
            (Error::UnsupportedCodec(text()), 415, "unsupported_media"),
            (Error::Corrupt(text()), 422, "undecodable_audio"),
            (Error::Empty(text()), 422, "undecodable_audio"),
            (Error::InvalidOption(text()), 500, "internal"),
        ] {
            let failure = Failure::from(error);
            assert_eq!(
                (failure.code.http_status(), failure.code.as_str()),
                (status, code)
            );
            assert!(failure.message.contains("the text"));
            assert_eq!(failure.retry_after, None);
        }
    }

    #[test]
    fn inference_errors_are_client_errors_only_for_options() {
        use inference::Error;
        for (error, status, code) in [
            (Error::UnsupportedLanguage(text()), 400, "bad_request"),
            (Error::UnsupportedOption(text()), 400, "bad_request"),
            (Error::InvalidOption(text()), 400, "bad_request"),
            (Error::AccessDenied(text()), 500, "internal"),
            (Error::InvalidFrames(text()), 500, "internal"),
            (Error::InvalidState(text()), 500, "internal"),
            (Error::Internal(text()), 500, "internal"),
        ] {
            let failure = Failure::from(error);
            assert_eq!(
                (failure.code.http_status(), failure.code.as_str()),
                (status, code)
            );
            assert!(failure.message.contains("the text"));
        }
    }

    #[test]
    fn an_error_has_a_code_and_a_message() {
        let failure = Failure::new(Code::UnsupportedMedia, "not audio: \"x\"");
        let expected = r#"{"error":{"code":"unsupported_media","message":"not audio: \"x\""}}"#;
        assert_eq!(failure.json(), expected);
    }

    #[test]
    fn overload_says_when_to_retry() {
        let failure = Failure::from(inference::Error::Overloaded(7));
        assert_eq!(
            (failure.code.http_status(), failure.code.as_str()),
            (503, "overloaded")
        );
        assert_eq!(failure.retry_after, Some(7));
    }

    #[test]
    fn the_other_codes_map_to_http_statuses() {
        for (code, status, name) in [
            (Code::IncompleteBody, 400, "incomplete_body"),
            (Code::MethodNotAllowed, 405, "method_not_allowed"),
            (Code::BodyTooLarge, 413, "body_too_large"),
            (Code::AudioTooLong, 413, "audio_too_long"),
        ] {
            assert_eq!((code.http_status(), code.as_str()), (status, name));
        }
    }
}
