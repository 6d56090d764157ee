//! How much of everything one component may use, with the default of each limit and its reason.

use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// `[component.ID.tool.whisper-host.limits]`. Durations are written `"30s"`, `"2m"`; sizes `"256MiB"`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Wall-clock time from the request's start in the component to the end of its answer. Default 30 s: a handler
    /// that takes longer is stuck, or says so here.
    #[serde(deserialize_with = "some_time")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// CPU time of the component, and of the host in its calls, per request. Default 10 s.
    #[serde(deserialize_with = "some_time")]
    #[schemars(with = "String")]
    pub cpu: Duration,
    /// Linear memory of one instance, all its modules together. Default 128 MiB, as much as most serverless hosts
    /// grant.
    #[serde(deserialize_with = "memory")]
    #[schemars(with = "String")]
    pub memory: ByteSize,
    /// Request body. Default 10 MiB.
    #[serde(deserialize_with = "size")]
    #[schemars(with = "String")]
    pub request_body: ByteSize,
    /// Longest time in which `body_progress` of the request body must arrive, while the component waits for it. Default 30 s.
    #[serde(deserialize_with = "some_time")]
    #[schemars(with = "String")]
    pub body_idle: Duration,
    /// What must arrive of the request body within `body_idle`, if it has not ended. Default 16 KiB.
    #[serde(deserialize_with = "size")]
    #[schemars(with = "String")]
    pub body_progress: ByteSize,
    /// What a component prints for one request and the log takes, each line counted with 128 bytes more than it has. The rest is
    /// dropped, and the log says how much. Default 1 MiB. Of all requests of a component together, the log takes 4 MiB a second.
    #[serde(deserialize_with = "size")]
    #[schemars(with = "String")]
    pub output: ByteSize,
    /// Requests that run at the same time. Default 32.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub concurrency: usize,
    /// Of those, requests of one client, an IPv4 address or a /64 of IPv6; its others wait. Default: no more than it leaves free, so
    /// one that sends slowly, or what takes long, has half of them, a second one a quarter, and so on.
    #[serde(deserialize_with = "perhaps_at_least_one")]
    #[schemars(range(min = 1))]
    pub client_concurrency: Option<usize>,
    /// Requests that wait for their turn; one more is answered 503. Default 256.
    pub queue: usize,
    /// Longest wait for a turn; then 503. Default 60 s.
    #[serde(deserialize_with = "some_time")]
    #[schemars(with = "String")]
    pub queue_timeout: Duration,
    /// Requests that one instance serves, one after another, before a fresh one takes over. Default 1: nothing of one
    /// request is left for the next.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub instance_reuse: usize,
    /// How long an instance waits for its next request, where `instance_reuse` allows one. Default 1 s.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub instance_idle: Duration,
    /// Longest wait for a connection to, for the first byte of, and between two pieces of, an outbound answer.
    /// A component may ask for less. Default 30 s.
    #[serde(deserialize_with = "some_time")]
    #[schemars(with = "String")]
    pub outbound_timeout: Duration,
    /// Outbound requests that one instance has under way at the same time; further ones wait. Default 16: a component
    /// that opens thousands would use up the host's sockets and those of its peers.
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

/// The longest duration of a limit: as good as none, and short enough to be added to a point in time.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = humantime::parse_duration(&text).map_err(|e| {
        serde::de::Error::custom(format!("\"{text}\" is not a duration like \"30s\": {e}"))
    })?;
    if duration > LONGEST {
        return Err(serde::de::Error::custom(format!(
            "\"{text}\" is too long: at most \"{}\"",
            humantime::format_duration(LONGEST)
        )));
    }
    Ok(duration)
}

/// A duration in which something can be done.
fn some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let duration = duration(deserializer)?;
    if duration.is_zero() {
        return Err(serde::de::Error::custom(
            "no request would ever be served in no time: give more than \"0s\"",
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

fn perhaps_at_least_one<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<usize>, D::Error> {
    at_least_one(deserializer).map(Some)
}

/// What a component of 32 bits can have, in whole pages of 64 KiB.
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
    fn limits_under_which_nothing_could_be_served_are_refused() {
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
