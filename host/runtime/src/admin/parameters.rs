//! The parameters of a request: those that are not known, or given twice, are refused.

use crate::error::{Code, Failure};

/// Names and values, in their order.
pub(super) type Parameters = Vec<(String, String)>;

/// The value of the only parameter that there may be.
pub(super) fn one<'a>(
    query: &'a [(String, String)],
    known: &str,
) -> Result<Option<&'a str>, Failure> {
    match query {
        [] => Ok(None),
        [(name, value)] if name == known => Ok(Some(value)),
        _ => match query.iter().find(|(name, _)| name != known) {
            Some((name, _)) => Err(bad(&format!("unknown parameter {name}; there is {known}"))),
            None => Err(twice(known)),
        },
    }
}

pub(super) fn none(query: &[(String, String)]) -> Result<(), Failure> {
    match query.first() {
        Some((name, _)) => Err(bad(&format!(
            "unknown parameter {name}; there is none here"
        ))),
        None => Ok(()),
    }
}

pub(super) fn flag(name: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(bad(&format!(
            "{name}: \"{value}\" is neither true nor false"
        ))),
    }
}

pub(super) fn twice(name: &str) -> Failure {
    bad(&format!("the parameter {name} is given twice"))
}

pub(super) fn bad(message: &str) -> Failure {
    Failure::new(Code::BadRequest, message.to_owned())
}
