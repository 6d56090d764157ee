//! The store, independent of its backend.

use std::path::Path;
use std::time::Duration;

use crate::error::Error;
use crate::point::Point;
use crate::query::Query;
use crate::sqlite;

/// Maximum number of points in one write, as other writes wait for it.
pub const MAX_POINTS: usize = 1000;

/// A time-series store. It can be called from many tasks at once.
pub struct Store {
    backend: sqlite::Sqlite,
}

impl Store {
    /// Opens or creates the SQLite file at `path`. Its folder must exist. Blocks. Points older than `retention` are removed within a
    /// minute; with `None`, points are kept forever.
    ///
    /// Several processes may have the same file open.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the file is not an SQLite database, was written by a newer version of this program or by another
    /// program, or cannot be read and written.
    pub fn open_sqlite(path: impl AsRef<Path>, retention: Option<Duration>) -> Result<Self, Error> {
        let backend = sqlite::Sqlite::open(path.as_ref(), retention)?;
        Ok(Self { backend })
    }

    /// Writes points atomically, at most [`MAX_POINTS`]. When this returns, they are on disk. Waits while many writes are queued.
    ///
    /// If the future is dropped before it completes, the points may or may not be written.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the point and the rule; [`Error::Unavailable`] with the database's error.
    pub async fn write(&self, points: Vec<Point>) -> Result<(), Error> {
        if points.len() > MAX_POINTS {
            return Err(Error::Invalid(format!(
                "{} points are more than the {MAX_POINTS} of one write; write them in several",
                points.len()
            )));
        }
        for (index, point) in points.iter().enumerate() {
            point
                .check()
                .map_err(|rule| Error::Invalid(format!("point {index}: {rule}")))?;
        }
        if points.is_empty() {
            return Ok(());
        }
        self.backend.write(points).await
    }

    /// Aggregates the points that a query selects. Without points, `count` and `sum` are 0.0 and the other aggregates `None`. Sees
    /// every write that was acknowledged before the call.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the query is invalid or the field is not numeric; [`Error::Unavailable`].
    pub async fn aggregate(&self, query: Query) -> Result<Option<f64>, Error> {
        query.check()?;
        self.backend.aggregate(query).await
    }

    /// Waits for pending writes, then closes the files. Dropping the store does the same, but blocks.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the last writes or closing fail.
    pub async fn close(self) -> Result<(), Error> {
        self.backend.close().await
    }
}
