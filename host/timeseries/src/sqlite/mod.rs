//! The store in an SQLite file: one thread writes, one reads and one removes expired points. Each has its own connection, so that
//! reads do not wait for writes.

mod aggregate;
mod call;
mod connection;
mod kind;
mod reader;
mod retention;
mod rollup;
mod schema;
mod sharing;
mod spool;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{Notify, mpsc, oneshot};

pub(crate) use self::aggregate::Totals;
use self::call::{Change, Read, Write, call, stopped};
use self::connection::{connect, unavailable};
pub(crate) use self::spool::{Batch, Fill, Row, Spool};
use self::writer::Outbox;
use crate::message::{Message, Outgoing, Position};
use crate::{Error, Point, Query};

/// Maximum number of queued calls per thread; further callers wait to enqueue theirs.
const QUEUE: usize = 1024;

/// Maximum time of a query: others wait for it.
const MAX_QUERY_TIME: Duration = Duration::from_secs(10);
/// Steps of SQLite's virtual machine between two checks of whether a query is over.
const PROGRESS_STEPS: i32 = 10_000;

/// An open SQLite store.
pub(crate) struct Sqlite {
    path: PathBuf,
    writes: Option<mpsc::Sender<Write>>,
    reads: Option<mpsc::Sender<Read>>,
    /// Dropped when the store closes, to stop the retention thread.
    open: Option<std::sync::mpsc::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    /// Notified of points to be added to the log. `None` if this store does not share.
    written: Option<Notify>,
}

impl Sqlite {
    /// Opens or creates the file, and starts the threads.
    pub fn open(path: &Path, retention: Option<Duration>) -> Result<Self, Error> {
        Self::start(path, retention, false)
    }

    /// Opens or creates the file of a store that shares its points.
    pub fn open_shared(path: &Path, retention: Option<Duration>) -> Result<Self, Error> {
        Self::start(path, retention, true)
    }

    fn start(path: &Path, retention: Option<Duration>, is_shared: bool) -> Result<Self, Error> {
        let mut connection = connect(path)?;
        schema::prepare(&mut connection, path)?;
        let outbox = is_shared
            .then(|| Outbox::new(&connection))
            .transpose()
            .map_err(|error| unavailable(path, &error))?;
        let (writes, writes_rx) = mpsc::channel(QUEUE);
        let (reads, reads_rx) = mpsc::channel(QUEUE);
        let reader = connect(path)?;
        let path = path.to_owned();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.into())
                .spawn(run)
                .map_err(|error| {
                    Error::Unavailable(format!("cannot start a thread for the store: {error}"))
                })
        };
        let (open, closed) = std::sync::mpsc::channel();
        let mut threads = vec![
            spawn("timeseries-writer", {
                let path = path.clone();
                Box::new(move || writer::run(connection, &path, outbox, writes_rx))
            })?,
            spawn(
                "timeseries-reader",
                Box::new(move || reader::run(reader, reads_rx)),
            )?,
        ];
        if let Some(retention) = retention {
            let connection = connect(&path)?;
            threads.push(spawn(
                "timeseries-retention",
                Box::new({
                    let path = path.clone();
                    move || retention::run(connection, &path, retention, &closed)
                }),
            )?);
        }
        Ok(Self {
            path,
            writes: Some(writes),
            reads: Some(reads),
            open: Some(open),
            threads,
            written: is_shared.then(Notify::new),
        })
    }

    /// Opens a new database in memory.
    pub fn in_memory() -> Result<Self, Error> {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        // SQLite's file system in memory: all connections of the process to one name share a database, until the last is closed.
        let path = format!("file:/timeseries-{number}?vfs=memdb");
        Self::open(Path::new(&path), None)
    }

    pub async fn write(&self, points: Vec<Point>) -> Result<(), Error> {
        call(self.writes.as_ref(), Change::Write(points)).await?;
        if let Some(written) = &self.written {
            written.notify_one();
        }
        Ok(())
    }

    pub fn is_shared(&self) -> bool {
        self.written.is_some()
    }

    /// Waits until points were written since the last call. Never returns if this store does not share.
    pub async fn written(&self) {
        match &self.written {
            Some(written) => written.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Returns the oldest points to be added to the log.
    pub async fn outgoing(&self, max_bytes: usize) -> Result<Option<Outgoing>, Error> {
        self.read(move |connection| sharing::oldest(connection, max_bytes))
            .await
    }

    /// Counts the points to be added to the log.
    pub async fn waiting(&self) -> Result<u64, Error> {
        self.read(|connection| sharing::count(connection)).await
    }

    /// Removes points that are in the log, up to the one with this number.
    pub async fn confirm(&self, last: i64) -> Result<(), Error> {
        call(self.writes.as_ref(), Change::Confirm(last)).await
    }

    /// Returns where the last message is that was applied.
    pub async fn position(&self) -> Result<Option<Position>, Error> {
        self.read(|connection| sharing::position(connection)).await
    }

    /// Adds points of other stores that are not in the file yet.
    pub async fn apply(
        &self,
        messages: Vec<Message<Point>>,
        position: Position,
    ) -> Result<(), Error> {
        call(self.writes.as_ref(), Change::Apply(messages, position)).await
    }

    pub async fn aggregate(&self, query: Query) -> Result<Option<f64>, Error> {
        self.read(move |connection| aggregate::aggregate(connection, &query))
            .await?
    }

    /// Returns the totals of the values that a query selects, whatever its aggregation.
    pub async fn totals(&self, query: Query) -> Result<Totals, Error> {
        self.read(move |connection| aggregate::totals(connection, &query))
            .await
    }

    /// Returns the numbers that a query selects, whatever its aggregation.
    pub async fn numbers(&self, query: Query) -> Result<Vec<f64>, Error> {
        self.read(move |connection| aggregate::numbers(connection, &query))
            .await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, replied) = oneshot::channel();
        let path = self.path.clone();
        let waiting = Arc::new(());
        let caller = Arc::downgrade(&waiting);
        let read = move |connection: &mut Connection| {
            if reply.is_closed() {
                return;
            }
            let started = Instant::now();
            let is_over = move || caller.strong_count() == 0 || started.elapsed() > MAX_QUERY_TIME;
            let result = connection
                .progress_handler(PROGRESS_STEPS, Some(is_over))
                .and_then(|()| work(connection))
                .map_err(|error| match error.sqlite_error_code() {
                    Some(ErrorCode::OperationInterrupted) => Error::Unavailable(format!(
                        "the query took longer than {} s; select a shorter time",
                        MAX_QUERY_TIME.as_secs()
                    )),
                    _ => unavailable(&path, &error),
                });
            // The receiver is gone if the caller has given up.
            let _ = reply.send(result);
        };
        let thread = self.reads.as_ref().ok_or_else(stopped)?;
        thread.send(Box::new(read)).await.map_err(|_| stopped())?;
        let result = replied.await.unwrap_or_else(|_| Err(stopped()));
        drop(waiting);
        result
    }

    pub async fn close(mut self) -> Result<(), Error> {
        // Joining blocks, so it runs on a thread of its own.
        let (done, closed) = oneshot::channel();
        std::thread::spawn(move || {
            let result = self.stop();
            // The receiver is gone if the caller has given up.
            let _ = done.send(result);
        });
        closed.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Lets the threads finish what is queued, and waits for them.
    fn stop(&mut self) -> Result<(), Error> {
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
        if let Err(error) = self.stop() {
            tracing::error!(%error, "cannot close the store");
        }
    }
}
