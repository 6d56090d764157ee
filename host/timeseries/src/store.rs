//! The store, whatever database keeps its points.

use std::path::Path;
use std::time::Duration;

use crate::error::Error;
use crate::point::Point;
use crate::query::Query;
use crate::sqlite;

/// Points of one write. The writes of others wait behind it.
pub const MAX_POINTS: usize = 1000;

/// A store of points. Calls may be made from many tasks at once.
pub struct Store {
    backend: sqlite::Sqlite,
}

impl Store {
    /// Open the SQLite file at `path`, or make it. Its folder must exist. Blocks. Points whose time is longer ago than `retention`
    /// are removed, within a minute; none: they are kept for ever.
    ///
    /// Several processes may have the same file open.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the file is no SQLite database, comes from a newer version of this program, belongs to
    /// another one, or cannot be read and written.
    pub fn open_sqlite(path: impl AsRef<Path>, retention: Option<Duration>) -> Result<Self, Error> {
        let backend = sqlite::Sqlite::open(path.as_ref(), retention)?;
        Ok(Self { backend })
    }

    /// Write points, all or none, at most [`MAX_POINTS`]. When this returns, they are on disk. Waits while many writes are queued.
    ///
    /// When the future is dropped before it is done, the points may or may not be written.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the point and the rule; [`Error::Unavailable`] gives the database's reason.
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

    /// One number over the points that a query selects. `count` and `sum` of nothing are 0.0; the others of nothing are
    /// none. Sees every write that was acknowledged before the call.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a query that breaks the rules, or a field that is not numeric; [`Error::Unavailable`].
    pub async fn aggregate(&self, query: Query) -> Result<Option<f64>, Error> {
        query.check()?;
        self.backend.aggregate(query).await
    }

    /// Wait until the writes begun so far are done, then close the files. Dropping the store does the same, but blocks.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the last writes or the closing fail.
    pub async fn close(self) -> Result<(), Error> {
        self.backend.close().await
    }
}
