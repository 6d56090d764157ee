//! Connections to the file, and their errors.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::Error;

/// How long to wait while another process writes to the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a connection with the common settings.
pub(super) fn connect(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path).map_err(|error| unavailable(path, &error))?;
    let set = || -> rusqlite::Result<()> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // In WAL mode, only `full` flushes the log at every commit, so that an acknowledged point survives a power cut.
        connection.pragma_update(None, "synchronous", "full")
    };
    set().map_err(|error| unavailable(path, &error))?;
    Ok(connection)
}

/// Converts an error of the database, and says what to do about it.
pub(super) fn unavailable(path: &Path, error: &rusqlite::Error) -> Error {
    let path = path.display();
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            "it is not an SQLite database; move it away or choose another path"
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            "it is damaged; restore it from a backup or move it away"
        }
        Some(ErrorCode::CannotOpen) => "check that its folder exists and may be written",
        Some(ErrorCode::DiskFull) => "make room on the disk",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "make the file and its folder writable"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process holds it; try again"
        }
        _ => "the error is the database's",
    };
    Error::Unavailable(format!("time-series store `{path}`: {error}; {advice}"))
}
