//! The filter of a request to `/stats`: successful or failed calls.

use shared::failure::{Code, Failure};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With a transcription.
    Ok,
    /// With an error.
    Failed,
}

impl Outcome {
    /// The outcome for a call's status: `ok`, or the error code.
    pub fn of_status(status: &str) -> Self {
        if status == "ok" {
            Self::Ok
        } else {
            Self::Failed
        }
    }

    /// The tag value.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

/// The outcome that a request asks for, by method and path with query.
///
/// # Errors
/// [`Failure`] if the method is not allowed, or the query has an unknown parameter or value.
pub fn requested(method: &str, path_with_query: &str) -> Result<Outcome, Failure> {
    if !matches!(method, "GET" | "HEAD" | "POST") {
        return Err(Failure::new(
            Code::MethodNotAllowed,
            "use GET or POST for the statistics",
        ));
    }
    let query = path_with_query
        .split_once('?')
        .map_or("", |(_, query)| query);
    let mut outcome = Outcome::Ok;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        outcome = match (&*name, &*value) {
            ("outcome", "ok") => Outcome::Ok,
            ("outcome", "failed") => Outcome::Failed,
            ("outcome", other) => {
                return Err(Failure::bad_request(format!(
                    "outcome is {other:?}: use ok or failed"
                )));
            }
            (other, _) => {
                return Err(Failure::bad_request(format!(
                    "there is no query parameter {other:?}: use outcome=ok or outcome=failed, or none"
                )));
            }
        };
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_head_and_post_return_successful_calls() {
        for method in ["GET", "HEAD", "POST"] {
            assert_eq!(requested(method, "/stats"), Ok(Outcome::Ok));
        }
    }

    #[test]
    fn failed_calls_can_be_requested() {
        let outcome = requested("GET", "/stats?outcome=failed");
        assert_eq!(outcome, Ok(Outcome::Failed));
    }

    #[test]
    fn other_methods_are_refused() {
        let failure = requested("DELETE", "/stats").unwrap_err();
        assert_eq!(failure.code, Code::MethodNotAllowed);
    }

    #[test]
    fn unknown_parameters_and_values_are_refused_by_name() {
        for (query, name) in [("status=failed", "status"), ("outcome=maybe", "maybe")] {
            let failure = requested("GET", &format!("/stats?{query}")).unwrap_err();
            assert_eq!(failure.code, Code::BadRequest);
            assert!(failure.message.contains(name), "{failure}");
        }
    }

    #[test]
    fn every_status_but_ok_is_a_failure() {
        assert_eq!(Outcome::of_status("ok"), Outcome::Ok);
        assert_eq!(Outcome::of_status("unsupported_media"), Outcome::Failed);
    }
}
