//! The HTTP trigger: from a listening socket to the component that a route names, and back.

mod admin;
mod answer;
mod clients;
mod drain;
mod listener;
mod route;
mod router;
mod server;
mod spin_headers;
mod timer;

pub use admin::Admin;
pub(crate) use listener::Client;
pub(crate) use router::Router;
pub use server::{Server, ServerConfig};
pub(crate) use spin_headers::set as set_spin_headers;
