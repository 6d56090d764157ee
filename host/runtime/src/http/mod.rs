//! Shared by all HTTP servers of the host: connections with limits on number, time and size, counted per client.

use http::HeaderName;

mod clients;
mod connections;
mod drain;
mod listener;

/// The request's id, in the response and in the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(crate) use clients::{Clients, Permit};
pub(crate) use drain::Drained;
pub(crate) use listener::{Client, ConnectionLimits, Listener, MAX_HEADER_BYTES};
