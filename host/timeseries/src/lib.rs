//! A store of points in time: write points, aggregate a field.
//!
//! For hosts that count and measure. [`Store::open_sqlite`] keeps the points in one file; another database behind the
//! same calls is one more variant of the store and one more module beside `sqlite`. The crate knows neither speech nor
//! WebAssembly.
//!
//! A point that [`Store::write`] has acknowledged is on disk and survives a crash and a power cut.

mod error;
mod point;
mod query;
mod sqlite;
mod store;

pub use error::Error;
pub use point::{Point, Value};
pub use query::{Aggregation, Query};
pub use store::{MAX_POINTS, Store};
