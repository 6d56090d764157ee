//! The thread that reads. In WAL mode, a read sees everything committed before it began, and does not wait for writes.

use rusqlite::Connection;
use tokio::sync::mpsc::Receiver;

use super::call::Read;

/// Runs reads until all senders are dropped.
pub(super) fn run(mut connection: Connection, mut reads: Receiver<Read>) {
    while let Some(read) = reads.blocking_recv() {
        read(&mut connection);
    }
}
