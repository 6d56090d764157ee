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
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// CPU time of the component, and of the host in its calls, per request. Default 10 s.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub cpu: Duration,
    /// Linear memory of one instance, all its modules together. Default 128 MiB, as much as most serverless hosts
    /// grant.
    #[serde(deserialize_with = "size")]
    #[schemars(with = "String")]
    pub memory: ByteSize,
    /// Request body. Default 10 MiB.
    #[serde(deserialize_with = "size")]
    #[schemars(with = "String")]
    pub request_body: ByteSize,
    /// Longest pause between two pieces of the request body. Default 30 s.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub body_idle: Duration,
    /// What a component prints for one request and the log takes, each line counted with 128 bytes more than it has. The rest is
    /// dropped, and the log says how much. Default 1 MiB. Of all requests of a component together, the log takes 4 MiB a second.
    #[serde(deserialize_with = "size")]
    #[schemars(with = "String")]
    pub output: ByteSize,
    /// Requests that run at the same time. Default 32.
    pub concurrency: usize,
    /// Requests that wait for their turn; one more is answered 503. Default 256.
    pub queue: usize,
    /// Longest wait for a turn; then 503. Default 60 s.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub queue_timeout: Duration,
    /// Requests that one instance serves, one after another, before a fresh one takes over. Default 1: nothing of one
    /// request is left for the next.
    pub instance_reuse: usize,
    /// How long an instance waits for its next request, where `instance_reuse` allows one. Default 1 s.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub instance_idle: Duration,
    /// Longest wait for a connection to, for the first byte of, and between two pieces of, an outbound answer.
    /// A component may ask for less. Default 30 s.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub outbound_timeout: Duration,
    /// Outbound requests that one instance has under way at the same time; further ones wait. Default 16: a component
    /// that opens thousands would use up the host's sockets and those of its peers.
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
            output: ByteSize::mib(1),
            concurrency: 32,
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

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| serde::de::Error::custom(format!("\"{text}\" is not a size like \"256MiB\"")))
}
