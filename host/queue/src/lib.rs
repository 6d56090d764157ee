//! Messages over NATS: the connection, the subjects of messages, and durable jobs on JetStream.

mod config;
mod connection;
mod error;
pub mod jobs;
mod message;
mod subject;

pub use config::{Config, Identity, Server};
pub use connection::{Connection, Status, Subscription};
pub use error::Error;
pub use message::{Message, http_headers};
pub use subject::{Pattern, is_reserved_subject, is_subject};
