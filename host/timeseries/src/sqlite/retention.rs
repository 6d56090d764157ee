//! The thread that removes points older than the retention.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};

use super::connection::unavailable;
use super::rollup::Changes;
use crate::point::now;

/// How often to check: points may be kept for this much longer than the retention.
const INTERVAL: Duration = Duration::from_secs(60);

/// Removes expired points until the store closes.
pub(super) fn run(
    mut connection: Connection,
    path: &Path,
    retention: Duration,
    closed: &Receiver<()>,
) {
    let retention = i64::try_from(retention.as_nanos()).unwrap_or(i64::MAX);
    let mut wait = Duration::ZERO;
    while let Err(RecvTimeoutError::Timeout) = closed.recv_timeout(wait) {
        wait = match expire(&mut connection, now().saturating_sub(retention)) {
            // There may be more; let writes go in between.
            Ok(BATCH) => Duration::from_millis(1),
            Ok(_) => INTERVAL,
            Err(error) => {
                let error = unavailable(path, &error);
                tracing::error!(%error, "cannot remove expired points; trying again in a minute");
                INTERVAL
            }
        };
    }
}

/// Maximum number of values removed in one transaction: a write waits at most for these.
const BATCH: i64 = 5_000;

/// Removes at most [`BATCH`] values from before `cutoff`, in nanoseconds since 1970, and returns how many.
fn expire(connection: &mut Connection, cutoff: i64) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut removed = 0;
    let mut changes = Changes::default();
    {
        let fields: Vec<i64> = transaction
            .prepare_cached("SELECT id FROM field")?
            .query_map((), |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let mut select = transaction.prepare_cached(
            "SELECT rowid, series, kind, value FROM value INDEXED BY value_by_time
             WHERE field = ?1 AND time < ?2 ORDER BY time LIMIT ?3",
        )?;
        let mut delete = transaction.prepare_cached("DELETE FROM value WHERE rowid = ?1")?;
        for field in fields {
            let mut expired = Vec::new();
            let mut rows = select.query(params![field, cutoff, BATCH - removed])?;
            while let Some(row) = rows.next()? {
                changes.remove(field, row.get(1)?, row.get(2)?, row.get_ref(3)?);
                expired.push(row.get::<_, i64>(0)?);
            }
            removed += expired.len() as i64;
            for id in expired {
                delete.execute([id])?;
            }
            if removed == BATCH {
                break;
            }
        }
    }
    changes.apply(&transaction)?;
    transaction.commit()?;
    Ok(removed)
}
