//! What a request to `/stats` asks for.

use std::time::Duration;

use shared::failure::{Code, Failure};
use shared::form::once;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// With a transcription.
    #[default]
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

/// The calls that a request selects, and the percentiles that it asks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selection {
    /// How they ended.
    pub outcome: Outcome,
    /// How long ago they ended at most. `None`: since the store was created.
    pub since: Option<Duration>,
    /// Only calls of this model.
    pub model: Option<String>,
    /// Only calls in this language.
    pub language: Option<String>,
    /// Percentiles of the latency, as given in the request, and as shares.
    pub percentiles: Vec<(String, f64)>,
}

/// The parameters, as listed in errors.
const PARAMETERS: &str =
    "use outcome=ok or outcome=failed, since=1h, model=ID, language=en and p=95, or none";

/// Maximum number of percentiles in a request: each is a query of the store.
const MAX_PERCENTILES: usize = 10;

/// The selection of a request, by method and path with query.
///
/// # Errors
/// [`Failure`] if the method is not allowed, or the query has an unknown parameter or value.
pub fn requested(method: &str, path_with_query: &str) -> Result<Selection, Failure> {
    if !matches!(method, "GET" | "HEAD" | "POST") {
        return Err(Failure::new(
            Code::MethodNotAllowed,
            "use GET or POST for the statistics",
        ));
    }
    let query = path_with_query
        .split_once('?')
        .map_or("", |(_, query)| query);
    let mut outcome = None;
    let mut selection = Selection::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "outcome" => {
                let value = match &*value {
                    "ok" => Outcome::Ok,
                    "failed" => Outcome::Failed,
                    other => {
                        return Err(Failure::bad_request(format!(
                            "outcome is {other:?}: use ok or failed"
                        )));
                    }
                };
                once("parameter", &mut outcome, &name, value)?;
            }
            "since" => once("parameter", &mut selection.since, &name, duration(&value)?)?,
            "model" => once("parameter", &mut selection.model, &name, value.into_owned())?,
            "language" => once(
                "parameter",
                &mut selection.language,
                &name,
                value.into_owned(),
            )?,
            "p" => {
                let share = percentile(&value)?;
                if selection.percentiles.len() == MAX_PERCENTILES {
                    return Err(Failure::bad_request(format!(
                        "there are more than {MAX_PERCENTILES} percentiles: ask for fewer"
                    )));
                }
                selection.percentiles.push((value.into_owned(), share));
            }
            other => {
                return Err(Failure::bad_request(format!(
                    "there is no query parameter {other:?}: {PARAMETERS}"
                )));
            }
        }
    }
    selection.outcome = outcome.unwrap_or_default();
    Ok(selection)
}

fn duration(text: &str) -> Result<Duration, Failure> {
    humantime::parse_duration(text).map_err(|_| {
        Failure::bad_request(format!(
            "since is {text:?}: use a duration such as 15m, 1h, 7d or 1h 30m"
        ))
    })
}

/// The share of a percentile.
fn percentile(text: &str) -> Result<f64, Failure> {
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let percent: Option<f64> = text.parse().ok().filter(|_| is_plain);
    match percent {
        Some(percent) if percent <= 100.0 => Ok(percent / 100.0),
        _ => Err(Failure::bad_request(format!(
            "p is {text:?}: use a percentile from 0 to 100, such as 95 or 99.9"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_head_and_post_return_successful_calls() {
        for method in ["GET", "HEAD", "POST"] {
            assert_eq!(requested(method, "/stats"), Ok(Selection::default()));
        }
        assert_eq!(Selection::default().outcome, Outcome::Ok);
    }

    #[test]
    fn calls_are_selected_by_outcome_time_model_and_language() {
        let query = "outcome=failed&since=1h+30m&model=whisper&language=en&p=95&p=99.9";
        let expected = Selection {
            outcome: Outcome::Failed,
            since: Some(Duration::from_secs(5400)),
            model: Some("whisper".into()),
            language: Some("en".into()),
            percentiles: vec![("95".into(), 0.95), ("99.9".into(), 99.9 / 100.0)],
        };
        assert_eq!(requested("GET", &format!("/stats?{query}")), Ok(expected));
    }

    #[test]
    fn other_methods_are_refused() {
        let failure = requested("DELETE", "/stats").unwrap_err();
        assert_eq!(failure.code, Code::MethodNotAllowed);
    }

    #[test]
    fn unknown_parameters_and_values_are_refused_by_name() {
        for (query, name) in [
            ("status=failed", "status"),
            ("outcome=maybe", "maybe"),
            ("since=yesterday", "yesterday"),
            ("p=101", "101"),
            ("p=-1", "-1"),
            ("p=NaN", "NaN"),
            ("p=", "p is"),
            ("outcome=ok&outcome=ok", "twice"),
            (
                "p=1&p=1&p=1&p=1&p=1&p=1&p=1&p=1&p=1&p=1&p=1",
                "more than 10",
            ),
        ] {
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
