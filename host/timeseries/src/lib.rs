//! A time-series store: write points, aggregate a field.
//!
//! [`Store::open_sqlite`] keeps the points in one file, [`Store::in_memory`] in memory, [`Store::open_influx`] in InfluxDB 2. Another
//! database would be another backend of the store and another module next to these. The crate knows nothing about speech or
//! WebAssembly.
//!
//! A point that [`Store::write`] has acknowledged is on disk and survives a crash and a power cut.

mod error;
pub mod influx;
mod point;
mod query;
mod sqlite;
mod store;

pub use error::Error;
pub use point::{MAX_TAGS, Point, Value};
pub use query::{Aggregation, Query};
pub use store::{MAX_POINTS, Store};
