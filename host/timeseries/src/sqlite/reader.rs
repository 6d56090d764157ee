//! The thread that reads. In WAL mode it sees what was committed before a read began, and waits for no write.

use std::path::Path;

use rusqlite::Connection;
use tokio::sync::mpsc::Receiver;

use super::aggregate::aggregate;
use super::call::Read;
use super::connection::unavailable;

/// Answer queries until every sender is gone.
pub(super) fn run(mut connection: Connection, path: &Path, mut calls: Receiver<Read>) {
    while let Some(call) = calls.blocking_recv() {
        if call.answer.is_closed() {
            continue;
        }
        let result = aggregate(&mut connection, &call.what)
            .unwrap_or_else(|error| Err(unavailable(path, &error)));
        // A caller that has gone does not hear of it.
        let _ = call.answer.send(result);
    }
}
