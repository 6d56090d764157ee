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
mod writer;

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use self::call::{Read, Write, call, stopped};
use self::connection::connect;
use crate::{Error, Point, Query};

/// Maximum number of queued calls per thread; further callers wait to enqueue theirs.
const QUEUE: usize = 1024;

/// An open SQLite store.
pub(crate) struct Sqlite {
    writes: Option<mpsc::Sender<Write>>,
    reads: Option<mpsc::Sender<Read>>,
    /// Dropped when the store closes, to stop the retention thread.
    open: Option<std::sync::mpsc::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Sqlite {
    /// Opens or creates the file, and starts the threads.
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
                .map_err(|error| {
                    Error::Unavailable(format!("cannot start a thread for the store: {error}"))
                })
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
