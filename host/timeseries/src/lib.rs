//! A time-series store: write points, aggregate a field.
//!
//! [`Store::open_sqlite`] keeps the points in one file, [`Store::in_memory`] in memory, [`Store::open_influx`] in InfluxDB 2. Another
//! database would be another backend of the store and another module next to these. Stores of [`Store::open_shared`] count the points
//! of each other, too ([`Sharing`]). The crate knows nothing about speech or WebAssembly.
//!
//! A point that [`Store::write`] has acknowledged is on disk and survives a crash and a power cut.

mod error;
pub mod influx;
mod message;
mod point;
mod query;
mod sharing;
mod sqlite;
mod store;

pub use error::Error;
pub use message::{Incoming, Outgoing, Position, Rejected};
pub use point::{MAX_POINTS, MAX_TAGS, Point, Value};
pub use query::{Aggregation, Query};
pub use sharing::Sharing;
pub use store::Store;
