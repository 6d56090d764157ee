//! What a request to `/stats` asks for.

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With a transcription.
    Ok,
    /// With an error.
    Failed,
}

impl Outcome {
    /// Of a call's status: `ok`, or the error's code.
    pub fn of_status(status: &str) -> Self {
        if status == "ok" {
            Self::Ok
        } else {
            Self::Failed
        }
    }

    /// The value of the tag.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

/// A request that is understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    /// Which calls to sum up.
    pub outcome: Outcome,
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Neither GET, HEAD nor POST.
    Method,
    /// The query has a parameter or value that is not known; the text says which ones are.
    Query(String),
}

impl Question {
    /// From the method's name and the path with its query.
    pub fn parse(method: &str, path_with_query: &str) -> Result<Self, Refusal> {
        if !matches!(method, "GET" | "HEAD" | "POST") {
            return Err(Refusal::Method);
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
                    return Err(Refusal::Query(format!(
                        "outcome is {other:?}: use ok or failed"
                    )));
                }
                (other, _) => {
                    return Err(Refusal::Query(format!(
                        "there is no query parameter {other:?}: use outcome=ok or outcome=failed, or none"
                    )));
                }
            };
        }
        Ok(Self { outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_head_and_post_ask_for_the_calls_that_went_well() {
        for method in ["GET", "HEAD", "POST"] {
            assert_eq!(
                Question::parse(method, "/stats"),
                Ok(Question {
                    outcome: Outcome::Ok
                })
            );
        }
    }

    #[test]
    fn failed_calls_can_be_asked_for() {
        let question = Question::parse("GET", "/stats?outcome=failed");
        assert_eq!(
            question,
            Ok(Question {
                outcome: Outcome::Failed
            })
        );
    }

    #[test]
    fn other_methods_are_refused() {
        assert_eq!(Question::parse("DELETE", "/stats"), Err(Refusal::Method));
    }

    #[test]
    fn unknown_parameters_and_values_are_refused_by_name() {
        for (query, name) in [("status=failed", "status"), ("outcome=maybe", "maybe")] {
            let Err(Refusal::Query(text)) = Question::parse("GET", &format!("/stats?{query}"))
            else {
                panic!("{query} was taken");
            };
            assert!(text.contains(name), "{text}");
        }
    }

    #[test]
    fn every_status_but_ok_has_failed() {
        assert_eq!(Outcome::of_status("ok"), Outcome::Ok);
        assert_eq!(Outcome::of_status("unsupported_media"), Outcome::Failed);
    }
}
