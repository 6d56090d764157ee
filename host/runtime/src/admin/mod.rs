//! The admin interface: on a listener of its own.

mod access;
pub mod api;
mod parameters;
mod server;

pub use server::Admin;
