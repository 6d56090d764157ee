//! The HTTP trigger: from a listening socket to the component that a route names, and back.

mod admin;
mod answer;
mod clients;
mod connections;
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

/// Whether a host, with or without a port, is this machine: `localhost`, or a loopback address.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    // The colons of an IPv6 address stand in brackets.
    let host = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => host,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}
