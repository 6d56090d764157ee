//! The thread that writes: everything queued goes into one transaction, and each caller is notified after the commit, so
//! that one flush to disk serves many callers.

use std::collections::HashMap;
use std::path::Path;

use metrics::{Gauge, describe_gauge, gauge};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::mpsc::Receiver;

use super::call::{Change, Write};
use super::connection::unavailable;
use super::kind::{BOOLEAN, FLOAT, INTEGER, TEXT};
use super::rollup::Changes;
use super::sharing;
use crate::message::Numbered;
use crate::point::now;
use crate::{Point, Value};

/// Gauge: points that wait to be sent to other hosts.
const OUTGOING_POINTS: &str = "whisper_host_outgoing_points";

/// Maximum number of writes in one transaction; with more, the first caller would wait long.
const GROUP: usize = 256;

/// Where the points of a store that shares wait until they are in the log.
pub(super) struct Outbox {
    origin: String,
    points: Gauge,
}

impl Outbox {
    pub fn new(connection: &Connection) -> rusqlite::Result<Self> {
        describe_gauge!(
            OUTGOING_POINTS,
            "Points that wait to be sent to other hosts."
        );
        let points = gauge!(OUTGOING_POINTS);
        points.set(sharing::count(connection)? as f64);
        Ok(Self {
            // Not kept in the file: after a backup of it is restored, the numbers of later points would be given again.
            origin: sharing::new_origin(connection)?,
            points,
        })
    }
}

/// Writes until all senders are dropped.
pub(super) fn run(
    mut connection: Connection,
    path: &Path,
    outbox: Option<Outbox>,
    mut calls: Receiver<Write>,
) {
    let mut ids = Ids::default();
    let mut clock = Clock::default();
    let mut group = Vec::with_capacity(GROUP);
    while let Some(first) = calls.blocking_recv() {
        group.push(first);
        while group.len() < GROUP
            && let Ok(next) = calls.try_recv()
        {
            group.push(next);
        }
        let result = commit(&mut connection, &mut ids, &mut clock, outbox.as_ref(), &group).map_err(|error| {
            // Ids inserted in the transaction are rolled back with it.
            ids = Ids::default();
            tracing::error!(%error, writes = group.len(), "cannot write points to the time-series store");
            unavailable(path, &error)
        });
        for call in group.drain(..) {
            // The receiver is gone if the caller has given up.
            let _ = call.reply.send(result.clone());
        }
    }
    if let Err((_, error)) = connection.close() {
        tracing::error!(%error, "cannot close the time-series store");
    }
}

fn commit(
    connection: &mut Connection,
    ids: &mut Ids,
    clock: &mut Clock,
    outbox: Option<&Outbox>,
    group: &[Write],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut changes = Changes::default();
    let (mut enqueued, mut removed) = (0, 0);
    for call in group {
        match &call.request {
            Change::Write(points) => {
                let mut last = None;
                for point in points {
                    let time = time(point, clock);
                    insert(&transaction, ids, &mut changes, point, time)?;
                    if let Some(outbox) = outbox {
                        let point = Point {
                            time: Some(time.cast_unsigned()),
                            ..point.clone()
                        };
                        last = Some(sharing::enqueue(&transaction, &outbox.origin, &point)?);
                        enqueued += 1;
                    }
                }
                if let (Some(outbox), Some(last)) = (outbox, last) {
                    sharing::set_applied(&transaction, &outbox.origin, last)?;
                }
            }
            Change::Apply(messages, position) => {
                for message in messages {
                    let before = sharing::applied(&transaction, &message.origin)?;
                    let mut last = before;
                    for Numbered { number, point } in &message.points {
                        if *number > last {
                            let time = time(point, clock);
                            insert(&transaction, ids, &mut changes, point, time)?;
                            last = *number;
                        }
                    }
                    if last > before {
                        sharing::set_applied(&transaction, &message.origin, last)?;
                    }
                }
                sharing::set_position(&transaction, *position)?;
            }
            Change::Confirm(last) => removed += sharing::remove(&transaction, *last)?,
        }
    }
    changes.apply(&transaction)?;
    transaction.commit()?;
    if let Some(outbox) = outbox {
        outbox.points.increment(enqueued as f64);
        outbox.points.decrement(removed as f64);
    }
    Ok(())
}

/// Returns the time of a point in nanoseconds since 1970.
fn time(point: &Point, clock: &mut Clock) -> i64 {
    match point.time {
        // `Point::check` has checked that the time fits.
        Some(time) => i64::try_from(time).unwrap_or(i64::MAX),
        None => clock.now(),
    }
}

fn insert(
    transaction: &Transaction<'_>,
    ids: &mut Ids,
    changes: &mut Changes,
    point: &Point,
    time: i64,
) -> rusqlite::Result<()> {
    let series = ids.series(transaction, point)?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO value (field, series, time, kind, value) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (name, value) in &point.fields {
        let field = ids.field(transaction, &point.measurement, name)?;
        let (kind, value) = match value {
            Value::Float(number) => (FLOAT, ValueRef::Real(*number)),
            Value::Integer(number) => (INTEGER, ValueRef::Integer(*number)),
            Value::Text(text) => (TEXT, ValueRef::from(text.as_str())),
            Value::Boolean(truth) => (BOOLEAN, ValueRef::Integer(i64::from(*truth))),
        };
        insert.execute(params![
            field,
            series,
            time,
            kind,
            ToSqlOutput::Borrowed(value)
        ])?;
        changes.add(field, series, kind, value);
    }
    Ok(())
}

/// A clock that never returns the same time twice: other databases keep one point for each series and time.
#[derive(Default)]
struct Clock {
    last: i64,
}

impl Clock {
    fn now(&mut self) -> i64 {
        self.last = now().max(self.last + 1);
        self.last
    }
}

/// Maximum number of cached ids of series, and of fields. Writers choose the names, so there may be any number of them.
const MAX_CACHED: usize = 10_000;
/// Longer names are not cached.
const MAX_CACHED_LENGTH: usize = 1_000;

fn cache(ids: &mut HashMap<(String, String), i64>, key: (String, String), id: i64) {
    if key.0.len() + key.1.len() > MAX_CACHED_LENGTH {
        return;
    }
    if ids.len() >= MAX_CACHED {
        ids.clear();
    }
    ids.insert(key, id);
}

/// A cache of row ids. Rows of `series` and `field` are never deleted.
#[derive(Default)]
struct Ids {
    series: HashMap<(String, String), i64>,
    fields: HashMap<(String, String), i64>,
}

impl Ids {
    fn series(&mut self, transaction: &Transaction<'_>, point: &Point) -> rusqlite::Result<i64> {
        let mut tags = point.tags.clone();
        tags.sort();
        let tags = serde_json::Value::from_iter(
            tags.into_iter()
                .map(|(key, value)| serde_json::Value::from(vec![key, value])),
        );
        let key = (point.measurement.clone(), tags.to_string());
        if let Some(&id) = self.series.get(&key) {
            return Ok(id);
        }
        let inserted = transaction
            .prepare_cached("INSERT OR IGNORE INTO series (measurement, tags) VALUES (?1, ?2)")?
            .execute(params![key.0, key.1])?;
        let id = transaction
            .prepare_cached("SELECT id FROM series WHERE measurement = ?1 AND tags = ?2")?
            .query_row(params![key.0, key.1], |row| row.get(0))?;
        if inserted > 0 {
            let mut insert = transaction
                .prepare_cached("INSERT INTO tag (series, key, value) VALUES (?1, ?2, ?3)")?;
            for (key, value) in &point.tags {
                insert.execute(params![id, key, value])?;
            }
        }
        cache(&mut self.series, key, id);
        Ok(id)
    }

    fn field(
        &mut self,
        transaction: &Transaction<'_>,
        measurement: &str,
        name: &str,
    ) -> rusqlite::Result<i64> {
        let key = (measurement.to_owned(), name.to_owned());
        if let Some(&id) = self.fields.get(&key) {
            return Ok(id);
        }
        transaction
            .prepare_cached("INSERT OR IGNORE INTO field (measurement, name) VALUES (?1, ?2)")?
            .execute(params![measurement, name])?;
        let id = transaction
            .prepare_cached("SELECT id FROM field WHERE measurement = ?1 AND name = ?2")?
            .query_row(params![measurement, name], |row| row.get(0))?;
        cache(&mut self.fields, key, id);
        Ok(id)
    }
}
