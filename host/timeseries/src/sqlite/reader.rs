//! The thread that reads. In WAL mode, a read sees everything committed before it began, and does not wait for writes.

use std::path::Path;

use rusqlite::Connection;
use tokio::sync::mpsc::Receiver;

use super::aggregate::aggregate;
use super::call::Read;
use super::connection::unavailable;

/// Runs queries until all senders are dropped.
pub(super) fn run(mut connection: Connection, path: &Path, mut calls: Receiver<Read>) {
    while let Some(call) = calls.blocking_recv() {
        if call.reply.is_closed() {
            continue;
        }
        let result = aggregate(&mut connection, &call.request)
            .unwrap_or_else(|error| Err(unavailable(path, &error)));
        // The receiver is gone if the caller has given up.
        let _ = call.reply.send(result);
    }
}
