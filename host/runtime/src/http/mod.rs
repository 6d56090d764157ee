//! The HTTP trigger: from a listening socket to the component that a route names, and back.

mod admin;
mod answer;
mod clients;
mod listener;
mod router;
mod server;

pub use admin::Admin;
pub(crate) use router::Router;
pub use server::{Server, ServerConfig};
