//! Shared by all HTTP servers of the host: connections with limits on number, time and size, counted per client.

mod clients;
mod connections;
mod drain;
mod listener;

pub(crate) use clients::{Clients, Permit};
pub(crate) use drain::Drained;
pub(crate) use listener::{Client, ConnectionLimits, Listener, MAX_HEADER_BYTES};
