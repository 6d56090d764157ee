//! The oldest points of a file, and their removal: the file is the spool of another store.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::connection::{connect, unavailable};
use super::kind::{BOOLEAN, FLOAT, INTEGER};
use super::rollup::Changes;
use crate::{Error, Point, Value};

/// Bytes of tags and text after which a batch ends.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// Number of dead letters that are kept.
const MAX_DEAD_LETTERS: i64 = 10_000;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS instance (
    id TEXT NOT NULL                -- tells the points of this file from those of others
) STRICT;
INSERT INTO instance SELECT lower(hex(randomblob(16))) WHERE NOT EXISTS (SELECT * FROM instance);
CREATE TABLE IF NOT EXISTS dead_letter (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    line TEXT NOT NULL,             -- the point in line protocol
    reason TEXT NOT NULL,           -- why the server refuses it
    time TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT;
CREATE TABLE IF NOT EXISTS arrival (
    row INTEGER PRIMARY KEY,        -- all rows of value up to this one
    time INTEGER NOT NULL           -- were there at this time, in nanoseconds since 1970
) STRICT;
";

/// Access to the oldest points of a file.
pub(crate) struct Spool {
    path: PathBuf,
    connection: Mutex<Connection>,
}

/// Points in the order in which they were written, with their ends.
pub(crate) struct Batch {
    /// Each point and the last of its rows.
    pub points: Vec<(Point, Row)>,
}

/// A row of the table `value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row(i64);

/// What waits in the spool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill {
    pub bytes: u64,
    /// Time at which the oldest point was there, in nanoseconds since 1970.
    pub since: Option<i64>,
}

impl Spool {
    /// Opens the file of a store that exists.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let connection = connect(path)?;
        connection
            .execute_batch(TABLES)
            .map_err(|error| unavailable(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            connection: Mutex::new(connection),
        })
    }

    /// Returns an id of this file that no other has.
    pub async fn instance(self: &Arc<Self>) -> Result<String, Error> {
        self.run(|connection| connection.query_row("SELECT id FROM instance", (), |row| row.get(0)))
            .await
    }

    /// Counts the points.
    pub async fn count(self: &Arc<Self>) -> Result<u64, Error> {
        self.run(|connection| {
            let sql = "SELECT count(*) FROM (SELECT DISTINCT series, time FROM value)";
            connection.query_row(sql, (), |row| row.get::<_, i64>(0))
        })
        .await
        .map(i64::cast_unsigned)
    }

    /// Records that all points are there at this time, and returns size and age.
    pub async fn fill(self: &Arc<Self>, now: i64) -> Result<Fill, Error> {
        self.run(move |connection| {
            let transaction = begin(connection)?;
            let newest: Option<i64> =
                transaction.query_row("SELECT max(rowid) FROM value", (), |row| row.get(0))?;
            if let Some(newest) = newest {
                let sql = "INSERT OR IGNORE INTO arrival (row, time) VALUES (?1, ?2)";
                transaction.execute(sql, [newest, now])?;
            }
            let sql = "SELECT (page_count - freelist_count) * page_size
                       FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
            let bytes: i64 = transaction.query_row(sql, (), |row| row.get(0))?;
            let sql = "SELECT time FROM arrival ORDER BY row LIMIT 1";
            let since = transaction
                .query_row(sql, (), |row| row.get(0))
                .optional()?;
            transaction.commit()?;
            Ok(Fill {
                bytes: bytes.cast_unsigned(),
                since,
            })
        })
        .await
    }

    /// Returns at most `limit` of the oldest points, and at least one if there is any.
    pub async fn oldest(self: &Arc<Self>, limit: usize) -> Result<Batch, Error> {
        self.run(move |connection| read(connection, limit)).await
    }

    /// Removes the points that were there before this time, in nanoseconds since 1970, and returns how many.
    pub async fn remove_before(self: &Arc<Self>, time: i64) -> Result<u64, Error> {
        self.run(move |connection| {
            let transaction = begin(connection)?;
            let sql = "SELECT max(row) FROM arrival WHERE time < ?1";
            let last: Option<i64> = transaction.query_row(sql, [time], |row| row.get(0))?;
            let Some(last) = last else {
                return Ok(0);
            };
            let sql =
                "SELECT count(*) FROM (SELECT DISTINCT series, time FROM value WHERE rowid <= ?1)";
            let count: i64 = transaction.query_row(sql, [last], |row| row.get(0))?;
            remove(&transaction, Row(last))?;
            transaction.commit()?;
            Ok(count.cast_unsigned())
        })
        .await
    }

    /// Removes all points up to a row.
    pub async fn remove(self: &Arc<Self>, last: Row) -> Result<(), Error> {
        self.run(move |connection| {
            let transaction = begin(connection)?;
            remove(&transaction, last)?;
            transaction.commit()
        })
        .await
    }

    /// Moves the point that ends at a row to the dead letters, and removes all before it.
    pub async fn refuse(
        self: &Arc<Self>,
        last: Row,
        line: String,
        reason: String,
    ) -> Result<(), Error> {
        self.run(move |connection| {
            let transaction = begin(connection)?;
            remove(&transaction, last)?;
            transaction.execute(
                "INSERT INTO dead_letter (line, reason) VALUES (?1, ?2)",
                [line, reason],
            )?;
            transaction.execute(
                "DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - ?1",
                [MAX_DEAD_LETTERS],
            )?;
            transaction.commit()
        })
        .await
    }

    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let mut connection = this
                .connection
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            work(&mut connection).map_err(|error| unavailable(&this.path, &error))
        })
        .await
        .unwrap_or_else(|error| Err(Error::Unavailable(format!("the spool failed: {error}"))))
    }
}

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn read(connection: &mut Connection, limit: usize) -> rusqlite::Result<Batch> {
    let mut select = connection.prepare_cached(
        "SELECT value.rowid, series.id, series.measurement, series.tags, field.name, time, kind, value
         FROM value JOIN series ON series.id = series JOIN field ON field.id = field
         ORDER BY value.rowid",
    )?;
    let mut rows = select.query(())?;
    let mut points: Vec<(Point, Row)> = Vec::new();
    let mut bytes = 0;
    let mut current: Option<(i64, i64)> = None;
    while let Some(row) = rows.next()? {
        let (series, time) = (row.get(1)?, row.get(5)?);
        // The values of a point follow each other.
        if current != Some((series, time)) {
            if points.len() == limit || bytes > MAX_BATCH_BYTES {
                break;
            }
            current = Some((series, time));
            let tags: String = row.get(3)?;
            bytes += tags.len();
            let point = Point {
                measurement: row.get(2)?,
                time: u64::try_from(time).ok(),
                tags: serde_json::from_str(&tags).unwrap_or_default(),
                fields: Vec::new(),
            };
            points.push((point, Row(0)));
        }
        let Some((point, last)) = points.last_mut() else {
            break;
        };
        *last = Row(row.get(0)?);
        let value = match (row.get(6)?, row.get(7)?) {
            (FLOAT, SqlValue::Real(number)) => Value::Float(number),
            (INTEGER, SqlValue::Integer(number)) => Value::Integer(number),
            (BOOLEAN, SqlValue::Integer(truth)) => Value::Boolean(truth != 0),
            (_, SqlValue::Text(text)) => {
                bytes += text.len();
                Value::Text(text)
            }
            (_, other) => {
                return Err(rusqlite::Error::InvalidColumnType(
                    7,
                    "value".into(),
                    other.data_type(),
                ));
            }
        };
        point.fields.push((row.get(4)?, value));
    }
    Ok(Batch { points })
}

fn remove(transaction: &Transaction<'_>, Row(last): Row) -> rusqlite::Result<()> {
    let mut changes = Changes::default();
    let mut select = transaction
        .prepare_cached("SELECT field, series, kind, value FROM value WHERE rowid <= ?1")?;
    let mut rows = select.query([last])?;
    while let Some(row) = rows.next()? {
        changes.remove(row.get(0)?, row.get(1)?, row.get(2)?, row.get_ref(3)?);
    }
    transaction.execute("DELETE FROM value WHERE rowid <= ?1", [last])?;
    // The rows of an empty table are counted from 1 again.
    transaction.execute(
        "DELETE FROM arrival WHERE row <= ?1 OR NOT EXISTS (SELECT * FROM value)",
        [last],
    )?;
    changes.apply(transaction)
}
