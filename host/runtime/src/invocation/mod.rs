//! Invocations: calls of components, whatever triggers them. Each is admitted, held to limits, and ends in an answer or a failure.
//! This folder knows neither a protocol nor WebAssembly.

mod admission;
mod invocations;
mod lifecycle;
mod lines;
mod metrics;
mod output;
mod report;
mod stop;
mod target;
mod telemetry;

pub(crate) use invocations::Invocations;
pub(crate) use lifecycle::{Invocation, Phase};
pub use lines::Line;
pub use metrics::Snapshot;
pub(crate) use output::Output;
pub(crate) use report::{Fault, Reporter};
pub(crate) use stop::Stop;
pub(crate) use target::Target;
