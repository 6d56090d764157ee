//! The admin interface, on its own listener.

mod access;
pub mod api;
mod parameters;
mod server;

pub use server::Admin;
