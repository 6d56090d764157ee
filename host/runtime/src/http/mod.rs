//! The HTTP trigger: from a listening socket to the component that a route names, and back.

mod clients;
mod router;
mod server;

pub(crate) use router::Router;
pub use server::{Server, ServerConfig};
