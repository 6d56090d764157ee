//! What a file has for sharing: points to be added to the log, and how much of the log was applied.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde_json::value::RawValue;

use crate::message::{Message, Numbered, Outgoing, Position};
use crate::{MAX_POINTS, Point};

pub(super) const TABLES: &str = "
CREATE TABLE outgoing (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    origin TEXT NOT NULL,
    point TEXT NOT NULL             -- JSON
) STRICT;
CREATE TABLE applied (
    origin TEXT PRIMARY KEY,
    number INTEGER NOT NULL         -- of its last point in this file
) STRICT, WITHOUT ROWID;
CREATE TABLE position (             -- of the last message that was applied; at most one row
    sequence INTEGER NOT NULL,
    time INTEGER NOT NULL           -- nanoseconds since 1970
) STRICT;
";

/// Bytes of a message besides its points, and of a point besides its own JSON; at most.
const MESSAGE_OVERHEAD: usize = 64;
const POINT_OVERHEAD: usize = 48;

/// Returns a new origin, which no other opened store has.
pub(super) fn new_origin(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("SELECT lower(hex(randomblob(16)))", (), |row| row.get(0))
}

/// Counts the points to be added to the log.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .query_row("SELECT count(*) FROM outgoing", (), |row| {
            row.get::<_, i64>(0)
        })
        .map(i64::cast_unsigned)
}

/// Adds a point that is to be added to the log, and returns its number.
pub(super) fn enqueue(
    transaction: &Transaction<'_>,
    origin: &str,
    point: &Point,
) -> rusqlite::Result<i64> {
    let json = serde_json::to_string(point)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    transaction
        .prepare_cached("INSERT INTO outgoing (origin, point) VALUES (?1, ?2)")?
        .insert([origin, &json])
}

/// Returns the oldest points of one origin that are to be added to the log.
pub(super) fn oldest(
    connection: &Connection,
    max_bytes: usize,
) -> rusqlite::Result<Option<Outgoing>> {
    let sql = "SELECT number, origin, point FROM outgoing ORDER BY number LIMIT ?1";
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query([MAX_POINTS as i64])?;
    let mut message: Option<Message<Box<RawValue>>> = None;
    let mut bytes = MESSAGE_OVERHEAD;
    while let Some(row) = rows.next()? {
        let (number, origin, point): (i64, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        bytes += point.len() + POINT_OVERHEAD;
        let point = RawValue::from_string(point).map_err(malformed)?;
        let next = Numbered { number, point };
        match &mut message {
            None => {
                let points = vec![next];
                message = Some(Message { origin, points });
            }
            Some(message) if message.origin == origin && bytes <= max_bytes => {
                message.points.push(next);
            }
            Some(_) => break,
        }
    }
    let Some(message) = message else {
        return Ok(None);
    };
    let last = message.points.last().map_or(0, |point| point.number);
    Ok(Some(Outgoing {
        // A message up to the same point has the same points, or more of which all before are in the log.
        id: format!("{}-{last}", message.origin),
        payload: serde_json::to_vec(&message).map_err(malformed)?,
        points: message.points.len(),
        last,
    }))
}

fn malformed(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(2, Type::Text, error.into())
}

/// Removes points that are in the log, up to the one with this number, and returns how many.
pub(super) fn remove(transaction: &Transaction<'_>, last: i64) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("DELETE FROM outgoing WHERE number <= ?1")?
        .execute([last])
}

/// Returns the number of the last point of an origin in this file, 0 if there is none.
pub(super) fn applied(transaction: &Transaction<'_>, origin: &str) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached("SELECT number FROM applied WHERE origin = ?1")?
        .query_row([origin], |row| row.get(0))
        .optional()
        .map(Option::unwrap_or_default)
}

pub(super) fn set_applied(
    transaction: &Transaction<'_>,
    origin: &str,
    number: i64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO applied (origin, number) VALUES (?1, ?2)")?
        .execute(params![origin, number])
        .map(drop)
}

/// Returns where the last message is that was applied.
pub(super) fn position(connection: &Connection) -> rusqlite::Result<Option<Position>> {
    connection
        .query_row("SELECT sequence, time FROM position", (), |row| {
            Ok(Position {
                sequence: row.get::<_, i64>(0)?.cast_unsigned(),
                time: row.get(1)?,
            })
        })
        .optional()
}

pub(super) fn set_position(
    transaction: &Transaction<'_>,
    position: Position,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM position")?
        .execute(())?;
    transaction
        .prepare_cached("INSERT INTO position (sequence, time) VALUES (?1, ?2)")?
        .execute([position.sequence.cast_signed(), position.time])
        .map(drop)
}
