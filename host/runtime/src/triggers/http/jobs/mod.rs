//! Jobs: requests to a route that wait in NATS for a worker, and whose answers are kept.

mod endpoint;
mod headers;
mod metrics;
mod view;
mod worker;

pub(crate) use endpoint::JobsEndpoint;
