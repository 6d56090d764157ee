//! Resource limits of a component, each with its default and the reason for it.

use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// `[component.ID.tool.whisper-host.limits]`. Durations are written `"30s"`, `"2m"`; sizes `"256MiB"`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Wall-clock time from the start of the request in the component to the end of its response. Default 30 s: a handler
    /// that takes longer is stuck, unless it is given more here.
    #[serde(deserialize_with = "nonzero_duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// CPU time per request, of the component and of the host in the component's calls. Default 10 s.
    #[serde(deserialize_with = "nonzero_duration")]
    #[schemars(with = "String")]
    pub cpu: Duration,
    /// Linear memory of one instance, of all its modules together. Default 128 MiB, as on most serverless hosts.
    #[serde(deserialize_with = "memory")]
    #[schemars(with = "String")]
    pub memory: ByteSize,
    /// Size of the request body. Default 10 MiB.
    #[serde(deserialize_with = "size")]
    #[schemars(with = "String")]
    pub request_body: ByteSize,
    /// Longest time in which `body_progress` of the request body must arrive, while the component waits for it. Default 30 s.
    #[serde(deserialize_with = "nonzero_duration")]
    #[schemars(with = "String")]
    pub body_idle: Duration,
    /// How much of the request body must arrive within `body_idle`, unless it ends. Default 16 KiB.
    #[serde(deserialize_with = "size")]
    #[schemars(with = "String")]
    pub body_progress: ByteSize,
    /// How much of a component's output for one request is logged; each line counts as 128 bytes more than its length. The rest is
    /// dropped, and the log says how much. Default 1 MiB. For all requests of a component together, the log takes 4 MiB per second.
    #[serde(deserialize_with = "size")]
    #[schemars(with = "String")]
    pub output: ByteSize,
    /// Maximum number of concurrent requests. Default 32.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub concurrency: usize,
    /// Maximum number of concurrent requests of one client, an IPv4 address or an IPv6 /64; its other requests wait. Default: no more
    /// than it leaves free, so a client with slow or long requests gets half of them, a second one a quarter, and so on.
    #[serde(deserialize_with = "optional_at_least_one")]
    #[schemars(range(min = 1))]
    pub client_concurrency: Option<usize>,
    /// Maximum number of waiting requests; further ones get a 503. Default 256.
    pub queue: usize,
    /// Maximum time in the queue; then the request gets a 503. Default 60 s.
    #[serde(deserialize_with = "nonzero_duration")]
    #[schemars(with = "String")]
    pub queue_timeout: Duration,
    /// Number of requests that one instance serves, one after another, before it is replaced by a fresh one. Default 1, so that no
    /// state is carried over from one request to the next.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub instance_reuse: usize,
    /// How long an instance waits for its next request, if `instance_reuse` allows another. Default 1 s.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub instance_idle: Duration,
    /// Maximum wait for the connection of an outbound request, for the first byte of its response, and between two chunks of it.
    /// A component may set less. Default 30 s.
    #[serde(deserialize_with = "nonzero_duration")]
    #[schemars(with = "String")]
    pub outbound_timeout: Duration,
    /// Maximum number of concurrent outbound requests of one instance; further ones wait. Default 16: a component that opens
    /// thousands would exhaust the host's sockets and those of its peers.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub outbound_concurrency: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            cpu: Duration::from_secs(10),
            memory: ByteSize::mib(128),
            request_body: ByteSize::mib(10),
            body_idle: Duration::from_secs(30),
            body_progress: ByteSize::kib(16),
            output: ByteSize::mib(1),
            concurrency: 32,
            client_concurrency: None,
            queue: 256,
            queue_timeout: Duration::from_secs(60),
            instance_reuse: 1,
            instance_idle: Duration::from_secs(1),
            outbound_timeout: Duration::from_secs(30),
            outbound_concurrency: 16,
        }
    }
}

/// The longest duration of a limit: practically unlimited, and short enough to be added to an instant without overflow.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = humantime::parse_duration(&text).map_err(|e| {
        serde::de::Error::custom(format!("\"{text}\" is not a duration like \"30s\": {e}"))
    })?;
    if duration > MAX_DURATION {
        return Err(serde::de::Error::custom(format!(
            "\"{text}\" is too long: at most \"{}\"",
            humantime::format_duration(MAX_DURATION)
        )));
    }
    Ok(duration)
}

/// A duration that is not zero.
fn nonzero_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let duration = duration(deserializer)?;
    if duration.is_zero() {
        return Err(serde::de::Error::custom(
            "\"0s\" leaves no time to serve a request: give more",
        ));
    }
    Ok(duration)
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        0 => Err(serde::de::Error::custom("must be at least 1")),
        number => Ok(number),
    }
}

fn optional_at_least_one<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<usize>, D::Error> {
    at_least_one(deserializer).map(Some)
}

/// A memory size that a 32-bit component can have, in whole pages of 64 KiB.
fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    let size = size(deserializer)?;
    if size < ByteSize::kib(64) || size > ByteSize::gib(4) {
        return Err(serde::de::Error::custom(format!(
            "\"{size}\" is not between \"64KiB\" and \"4GiB\", which is what a component can have"
        )));
    }
    Ok(size)
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| serde::de::Error::custom(format!("\"{text}\" is not a size like \"256MiB\"")))
}

#[cfg(test)]
mod tests {
    use super::Limits;

    #[test]
    fn limits_that_allow_no_request_are_refused() {
        for (line, problem) in [
            ("concurrency = 0", "at least 1"),
            ("client_concurrency = 0", "at least 1"),
            ("instance_reuse = 0", "at least 1"),
            ("outbound_concurrency = 0", "at least 1"),
            ("timeout = '0s'", "no time"),
            ("cpu = '0s'", "no time"),
            ("memory = '1KiB'", "between"),
            ("memory = '1TiB'", "between"),
        ] {
            let error = toml::from_str::<Limits>(line).unwrap_err().to_string();
            assert!(error.contains(problem), "{line}: {error}");
        }
        let limits: Limits = toml::from_str("instance_idle = '0s'\nqueue = 0").unwrap();
        assert!(limits.instance_idle.is_zero());
    }
}
