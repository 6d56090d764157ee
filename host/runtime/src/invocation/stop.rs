//! Limits at which the host stops an invocation.

/// Why an invocation was stopped before its component had answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its wall-clock time was over.
    Timeout,
    /// The host had no place for another instance, for as long as it may wait.
    NoPlace,
    /// It had computed for too long.
    Cpu,
    /// Its component asked for more memory than it may have.
    Memory,
    /// Its body was larger than allowed.
    BodyTooLarge,
    /// Its body stopped coming.
    BodyIdle,
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stop::Timeout => "its time was over",
            Stop::NoPlace => "the host has no place for another instance",
            Stop::Cpu => "its CPU time was over",
            Stop::Memory => "it needs more memory than its limit",
            Stop::BodyTooLarge => "the body is too large",
            Stop::BodyIdle => "the body stopped coming",
        })
    }
}
