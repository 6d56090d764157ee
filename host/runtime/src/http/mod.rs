//! What every HTTP server of the host has: connections within limits of number, time and size, and clients told apart.

mod clients;
mod connections;
mod drain;
mod listener;
mod timer;

pub(crate) use clients::{Clients, Permit};
pub(crate) use drain::Drained;
pub(crate) use listener::{Client, ConnectionLimits, Listener, MAX_HEADER_BYTES};
