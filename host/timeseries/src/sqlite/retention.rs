//! The thread that removes what is older than the store keeps it.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};

use super::connection::unavailable;
use super::rollup::Changes;
use crate::point::now;

/// How often to look: what is removed may have been kept for as much longer.
const INTERVAL: Duration = Duration::from_secs(60);

/// Remove until the store closes.
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
            // There may be more; writes go between.
            Ok(AT_ONCE) => Duration::from_millis(1),
            Ok(_) => INTERVAL,
            Err(error) => {
                let error = unavailable(path, &error);
                tracing::error!(%error, "cannot remove expired points; trying again in a minute");
                INTERVAL
            }
        };
    }
}

/// Values that one transaction removes: a write waits no longer than for these.
const AT_ONCE: i64 = 5_000;

/// Removes values from before `cutoff`, in nanoseconds since 1970, and returns how many: all, if fewer than one transaction
/// takes.
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
            let mut rows = select.query(params![field, cutoff, AT_ONCE - removed])?;
            while let Some(row) = rows.next()? {
                changes.remove(field, row.get(1)?, row.get(2)?, row.get_ref(3)?);
                expired.push(row.get::<_, i64>(0)?);
            }
            removed += expired.len() as i64;
            for id in expired {
                delete.execute([id])?;
            }
            if removed == AT_ONCE {
                break;
            }
        }
    }
    changes.apply(&transaction)?;
    transaction.commit()?;
    Ok(removed)
}
