//! Errors of the store.

/// Why a call failed. The variant is the stable code; the text says what to do and is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A point or a query is invalid.
    #[error("{0}")]
    Invalid(String),
    /// The store cannot be opened or reached, or is out of space.
    #[error("{0}")]
    Unavailable(String),
}

impl Error {
    /// The error of a query that aggregates values of which some are not numbers.
    pub(crate) fn not_numeric(measurement: &str, field: &str) -> Self {
        Self::Invalid(format!(
            "field `{field}` of `{measurement}` has values that are not numbers; they can only be counted"
        ))
    }
}
