//! The tables, and the check that a file has them.
//!
//! A field's value is one row of `value`. Both indices cover whole rows: one is ordered by time, for counts and sums over a range,
//! the other by size, for ranks (see `rollup`). All points with the same measurement and tags share one row of `series`, of which
//! there are few.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::connection::unavailable;
use super::{rollup, sharing};
use crate::Error;

/// Marks a file as this store's: "TSPT" in ASCII.
const APPLICATION_ID: i32 = 0x5453_5054;

/// Version of the tables. Files of version 1 have no rolling aggregates, which are built when such a file is opened; those of version 2
/// have no tables for sharing.
const VERSION: i32 = 3;

const TABLES: &str = "
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    measurement TEXT NOT NULL,
    tags TEXT NOT NULL,             -- JSON array of [key, value], sorted by key
    UNIQUE (measurement, tags)
) STRICT;
CREATE TABLE tag (
    series INTEGER NOT NULL REFERENCES series (id),
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (key, value, series)
) STRICT, WITHOUT ROWID;
CREATE TABLE field (
    id INTEGER PRIMARY KEY,
    measurement TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (measurement, name)
) STRICT;
CREATE TABLE value (
    field INTEGER NOT NULL REFERENCES field (id),
    series INTEGER NOT NULL REFERENCES series (id),
    time INTEGER NOT NULL,          -- nanoseconds since 1970
    kind INTEGER NOT NULL,          -- 0 float, 1 integer, 2 text, 3 boolean
    value ANY NOT NULL
) STRICT;
CREATE INDEX value_by_time ON value (field, time, series, kind, value);
CREATE INDEX value_by_size ON value (field, value, time, series, kind);
";

/// Creates the tables in a new file, and refuses a file of another program or of a newer version.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    let failed = |error: rusqlite::Error| unavailable(path, &error);
    // Two processes may open a new file at once; the second waits here and finds the tables created.
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    let number = |sql: &str| -> Result<i32, Error> {
        transaction
            .query_row(sql, [], |row| row.get(0))
            .map_err(failed)
    };
    let version = number("PRAGMA user_version")?;
    let application = number("PRAGMA application_id")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let shown = path.display();
    let is_new = tables == 0 && version == 0;
    let prepared = if is_new {
        transaction
            .execute_batch(TABLES)
            .and_then(|()| transaction.pragma_update(None, "application_id", APPLICATION_ID))
            .and_then(|()| transaction.execute_batch(rollup::TABLES))
    } else if application != APPLICATION_ID {
        return Err(Error::Unavailable(format!(
            "time-series store `{shown}`: it is an SQLite database of another program; choose another path"
        )));
    } else if version == VERSION {
        return Ok(());
    } else if version == 2 {
        Ok(())
    } else if version != 1 {
        return Err(Error::Unavailable(format!(
            "time-series store `{shown}`: its tables have version {version}, but this program supports version {VERSION}; \
             use the program that made it, or choose another path"
        )));
    } else {
        tracing::info!(store = %shown, "building rolling aggregates for a store of an earlier version");
        transaction
            .execute_batch(rollup::TABLES)
            .and_then(|()| rollup::rebuild(&transaction))
    };
    prepared
        .and_then(|()| transaction.execute_batch(sharing::TABLES))
        .and_then(|()| transaction.pragma_update(None, "user_version", VERSION))
        .and_then(|()| transaction.commit())
        .map_err(failed)
}
