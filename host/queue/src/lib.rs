//! Messages over NATS: the connection, the subjects of messages, durable jobs and a durable log on JetStream.

mod config;
mod connection;
mod error;
pub mod jobs;
pub mod log;
mod message;
mod subject;

pub use config::{Config, Identity, Server};
pub use connection::{Connection, Status, Subscription};
pub use error::Error;
pub use message::{Message, http_headers};
pub use subject::{Pattern, is_reserved_subject, is_subject};
