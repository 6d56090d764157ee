//! Query parameters: unknown and repeated ones are refused.

use crate::error::{Code, Failure};

/// Names and values, in order.
pub(super) type Parameters = Vec<(String, String)>;

/// Returns the value of `known`, the only parameter allowed.
pub(super) fn optional<'a>(
    query: &'a [(String, String)],
    known: &str,
) -> Result<Option<&'a str>, Failure> {
    match query {
        [] => Ok(None),
        [(name, value)] if name == known => Ok(Some(value)),
        _ => match query.iter().find(|(name, _)| name != known) {
            Some((name, _)) => Err(bad_request(&format!(
                "unknown parameter {name}; there is {known}"
            ))),
            None => Err(bad_request(&format!(
                "the parameter {known} is given twice"
            ))),
        },
    }
}

/// Checks that there are no parameters.
pub(super) fn none(query: &[(String, String)]) -> Result<(), Failure> {
    match query.first() {
        Some((name, _)) => Err(bad_request(&format!(
            "unknown parameter {name}; there is none here"
        ))),
        None => Ok(()),
    }
}

/// Parses the value of a boolean parameter.
pub(super) fn boolean(name: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(bad_request(&format!(
            "{name}: \"{value}\" is neither true nor false"
        ))),
    }
}

pub(super) fn bad_request(message: &str) -> Failure {
    Failure::new(Code::BadRequest, message.to_owned())
}
