//! Messages over NATS: the connection, and the subjects of messages.

mod config;
mod connection;
mod error;
mod message;
mod subject;

pub use config::{Config, Identity, Server};
pub use connection::{Connection, Status, Subscription};
pub use error::Error;
pub use message::Message;
pub use subject::{Pattern, is_subject};
