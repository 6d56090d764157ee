//! Limits at which the host stops an invocation.

/// Why the host stopped an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It exceeded its wall-clock time.
    Timeout,
    /// No instance became free within its queue timeout.
    NoInstance,
    /// It exceeded its CPU time.
    Cpu,
    /// It exceeded its memory limit.
    Memory,
    /// The request's body exceeded its limit.
    BodyTooLarge,
    /// The request's body stopped arriving.
    BodyIdle,
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stop::Timeout => "it exceeded its time limit",
            Stop::NoInstance => "all of the host's instances are in use",
            Stop::Cpu => "it exceeded its CPU time",
            Stop::Memory => "it exceeded its memory limit",
            Stop::BodyTooLarge => "the body is too large",
            Stop::BodyIdle => "the body stopped arriving",
        })
    }
}
