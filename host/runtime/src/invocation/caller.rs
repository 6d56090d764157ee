//! Who causes invocations.

use std::net::IpAddr;

/// Who causes an invocation. Each caller has a share of the permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Caller {
    /// The host itself, which has no limit of its own.
    Host,
    /// A client, an IPv4 address or a /64 of IPv6.
    Client(IpAddr),
    /// A queue, whose messages do not say who sent them.
    Queue,
    /// Jobs, for which nobody waits.
    Jobs,
}
