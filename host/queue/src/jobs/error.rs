//! Errors of jobs.

/// Why an operation on jobs failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record has changed meanwhile.
    #[error("the job has changed meanwhile")]
    Conflict,
    /// JetStream is not available.
    #[error("JetStream is not available: {0}")]
    Unavailable(String),
}

impl Error {
    pub(super) fn unavailable(error: impl std::fmt::Display) -> Self {
        Self::Unavailable(error.to_string())
    }
}
