//! Jobs: requests that wait in NATS for a worker, and whose responses are kept.

mod callback;
mod content;
mod dispatch;
mod endpoint;
mod metrics;
mod parameters;
mod response;
mod submit;
mod view;
mod worker;

pub(crate) use dispatch::Dispatcher;
pub(crate) use endpoint::JobsEndpoint;
pub(crate) use worker::Worker;
