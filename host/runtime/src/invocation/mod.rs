//! Invocations: calls of components by any trigger. Each is admitted, runs within limits, and ends in a response or a failure.
//! Independent of protocols and of WebAssembly.

mod admission;
mod caller;
mod invocations;
mod lifecycle;
mod lines;
mod metrics;
mod output;
mod progress;
mod report;
mod request_ids;
mod stop;
mod target;
mod telemetry;

pub(crate) use admission::Permit;
pub(crate) use caller::Caller;
pub(crate) use invocations::Invocations;
pub(crate) use lifecycle::{Invocation, ParentSpan, Phase};
pub use lines::Line;
pub use metrics::Snapshot;
pub(crate) use output::Output;
pub(crate) use report::{Fault, Reporter, truncated};
pub(crate) use request_ids::RequestIds;
pub(crate) use stop::Stop;
pub(crate) use target::Target;
