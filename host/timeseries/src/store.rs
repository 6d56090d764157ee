//! The store, independent of its backend.

use std::path::Path;
use std::time::Duration;

use crate::error::Error;
use crate::influx::{self, Influx};
use crate::point::{MAX_POINTS, Point};
use crate::query::Query;
use crate::sharing::Sharing;
use crate::sqlite::Sqlite;

/// A time-series store. It can be called from many tasks at once.
pub struct Store {
    backend: Backend,
}

enum Backend {
    Sqlite(Sqlite),
    Influx(Influx),
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
        let backend = Backend::Sqlite(Sqlite::open(path.as_ref(), retention)?);
        Ok(Self { backend })
    }

    /// Like [`open_sqlite`](Self::open_sqlite), for a store that shares its points with others through a log, see
    /// [`sharing`](Self::sharing). Points that were written to the file by a store that did not share are not shared later.
    ///
    /// # Errors
    /// As [`open_sqlite`](Self::open_sqlite).
    pub fn open_shared(path: impl AsRef<Path>, retention: Option<Duration>) -> Result<Self, Error> {
        let backend = Backend::Sqlite(Sqlite::open_shared(path.as_ref(), retention)?);
        Ok(Self { backend })
    }

    /// Opens a new store in memory.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if its threads cannot be started.
    pub fn in_memory() -> Result<Self, Error> {
        let backend = Backend::Sqlite(Sqlite::in_memory()?);
        Ok(Self { backend })
    }

    /// Opens a bucket of InfluxDB. Written points are on this machine's disk first, and then delivered to it. If the server cannot be
    /// reached, they wait. Needs a runtime of tokio until the store is closed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the spool cannot be opened, or the server refuses the token or the bucket.
    pub async fn open_influx(config: influx::Config) -> Result<Self, Error> {
        let backend = Backend::Influx(Influx::open(config).await?);
        Ok(Self { backend })
    }

    /// Returns what moves points to and from the log; `None` if this store does not share.
    #[must_use]
    pub fn sharing(&self) -> Option<Sharing<'_>> {
        match &self.backend {
            Backend::Sqlite(sqlite) if sqlite.is_shared() => Some(Sharing(sqlite)),
            Backend::Sqlite(_) | Backend::Influx(_) => None,
        }
    }

    /// Returns the name of the database, as OpenTelemetry has it.
    #[must_use]
    pub fn system(&self) -> &'static str {
        match &self.backend {
            Backend::Sqlite(_) => "sqlite",
            Backend::Influx(_) => "influxdb",
        }
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
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.write(points).await,
            Backend::Influx(influx) => influx.write(points).await,
        }
    }

    /// Aggregates the points that a query selects. Without points, `count` and `sum` are 0.0 and the other aggregates `None`. Sees
    /// every write that was acknowledged before the call.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the query is invalid or the field is not numeric; [`Error::Unavailable`].
    pub async fn aggregate(&self, query: Query) -> Result<Option<f64>, Error> {
        query.check()?;
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.aggregate(query).await,
            Backend::Influx(influx) => influx.aggregate(query).await,
        }
    }

    /// Waits for pending writes, then closes the files. Dropping the store does the same, but blocks.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the last writes or closing fail.
    pub async fn close(self) -> Result<(), Error> {
        match self.backend {
            Backend::Sqlite(sqlite) => sqlite.close().await,
            Backend::Influx(influx) => influx.close().await,
        }
    }
}
