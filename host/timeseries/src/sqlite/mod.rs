//! The store in an SQLite file: one thread writes, one reads, one removes what has expired, each with a connection of its own, so
//! that reads do not wait for writes.

mod aggregate;
mod reader;
mod retention;
mod rollup;
mod schema;
mod writer;

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use crate::{Error, Point, Query};

/// Calls that may wait for a thread; beyond, callers wait to queue theirs.
const QUEUE: usize = 1024;

/// How long to wait for another process that writes to the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Kinds of a value, as the tables have them. The first two are numbers.
const FLOAT: i64 = 0;
const INTEGER: i64 = 1;
const TEXT: i64 = 2;
const BOOLEAN: i64 = 3;

/// A call on its way to a thread, with the place for its answer.
struct Call<T, R> {
    what: T,
    answer: oneshot::Sender<Result<R, Error>>,
}

type Write = Call<Vec<Point>, ()>;
type Read = Call<Query, Option<f64>>;

/// An open SQLite store.
pub(crate) struct Sqlite {
    writes: Option<mpsc::Sender<Write>>,
    reads: Option<mpsc::Sender<Read>>,
    /// Dropped when the store closes, for the thread that waits for it.
    open: Option<std::sync::mpsc::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Sqlite {
    /// Open or make the file, and start the threads.
    pub fn open(path: &Path, retention: Option<Duration>) -> Result<Self, Error> {
        let mut connection = connect(path)?;
        schema::prepare(&mut connection, path)?;
        let (writes, writes_rx) = mpsc::channel(QUEUE);
        let (reads, reads_rx) = mpsc::channel(QUEUE);
        let reader = connect(path)?;
        let path = path.to_owned();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.into())
                .spawn(run)
                .map_err(|error| Error::Unavailable(format!("no thread for the store: {error}")))
        };
        let (open, closed) = std::sync::mpsc::channel();
        let mut threads = vec![
            spawn("timeseries-writer", {
                let path = path.clone();
                Box::new(move || writer::run(connection, &path, writes_rx))
            })?,
            spawn(
                "timeseries-reader",
                Box::new({
                    let path = path.clone();
                    move || reader::run(reader, &path, reads_rx)
                }),
            )?,
        ];
        if let Some(retention) = retention {
            let connection = connect(&path)?;
            threads.push(spawn(
                "timeseries-retention",
                Box::new(move || retention::run(connection, &path, retention, &closed)),
            )?);
        }
        Ok(Self {
            writes: Some(writes),
            reads: Some(reads),
            open: Some(open),
            threads,
        })
    }

    pub async fn write(&self, points: Vec<Point>) -> Result<(), Error> {
        call(self.writes.as_ref(), points).await
    }

    pub async fn aggregate(&self, query: Query) -> Result<Option<f64>, Error> {
        call(self.reads.as_ref(), query).await
    }

    pub async fn close(mut self) -> Result<(), Error> {
        // Joining blocks, so a thread of its own does it and tells when it is done.
        let (done, closed) = oneshot::channel();
        std::thread::spawn(move || {
            let ended = self.end();
            // Nobody waits when the caller has given up.
            let _ = done.send(ended);
        });
        closed.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Let the threads finish what is queued, and wait for them.
    fn end(&mut self) -> Result<(), Error> {
        self.writes = None;
        self.reads = None;
        self.open = None;
        let results: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        if results.iter().any(Result::is_err) {
            return Err(stopped());
        }
        Ok(())
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "the store did not close");
        }
    }
}

async fn call<T, R>(thread: Option<&mpsc::Sender<Call<T, R>>>, what: T) -> Result<R, Error> {
    let (answer, answered) = oneshot::channel();
    let thread = thread.ok_or_else(stopped)?;
    thread
        .send(Call { what, answer })
        .await
        .map_err(|_| stopped())?;
    answered.await.unwrap_or_else(|_| Err(stopped()))
}

fn stopped() -> Error {
    Error::Unavailable("the store's thread has stopped; the log has the reason".into())
}

/// A connection with the settings that every one needs.
fn connect(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path).map_err(|error| unavailable(path, &error))?;
    let set = || -> rusqlite::Result<()> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // In WAL mode only `full` flushes the log at every commit, so that an acknowledged point outlives a power cut.
        connection.pragma_update(None, "synchronous", "full")
    };
    set().map_err(|error| unavailable(path, &error))?;
    Ok(connection)
}

/// An error of the database, with what to do about it.
fn unavailable(path: &Path, error: &rusqlite::Error) -> Error {
    let path = path.display();
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            "it is no SQLite database; move it away or choose another path"
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
        _ => "the reason is the database's",
    };
    Error::Unavailable(format!("time-series store `{path}`: {error}; {advice}"))
}
