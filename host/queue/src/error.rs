//! Errors of messages.

/// Why a message was not sent, or not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The message exceeds the server's limit.
    #[error(
        "the message has more than the {limit} bytes that the NATS server accepts (its `max_payload`); send less, or let the operator raise that"
    )]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The subject is empty, or has white space, wildcards or an empty token.
    #[error(
        "\"{0}\" is not a subject to send to: use words with a `.` between them, without wildcards"
    )]
    InvalidSubject(String),
    /// Nobody is subscribed to the subject.
    #[error("nobody is subscribed to \"{0}\"")]
    NoResponders(String),
    /// There was no answer in time.
    #[error("there was no answer on \"{0}\" in time")]
    TimedOut(String),
    /// The connection is lost. The message may have been sent.
    #[error("there is no connection to NATS; try again later")]
    Disconnected,
}
