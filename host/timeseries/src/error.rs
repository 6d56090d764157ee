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
