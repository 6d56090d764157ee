//! The structured log on standard error: text for people, JSON for machines.
//!
//! A dedicated thread writes it. If standard error blocks or fails (its reader has stopped, or the disk is full), lines are dropped
//! and counted, and requests go on. `tracing-appender` does not count lines that cannot be written, and prints to standard output
//! when it is dropped, which may block, too.

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context as _;
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::SPANS;
use crate::trace::Exporter;

/// Format of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Format {
    /// Returns the format for standard error: text if it is a terminal.
    #[must_use]
    pub fn of_standard_error() -> Self {
        match io::stderr().is_terminal() {
            true => Self::Text,
            false => Self::Json,
        }
    }
}

/// Capacity of the queue, in lines.
const QUEUE: usize = 4096;
/// Bytes per write.
const BATCH_SIZE: usize = 64 << 10;
/// How long lines are collected for the next write. Logging wakes the thread only if it is waiting on the queue: under load, waking
/// it for each line cost as much as a small request.
const BATCH_DELAY: Duration = Duration::from_millis(1);
/// How long the process waits at exit for pending lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Lines lost since the start.
static LOST: AtomicU64 = AtomicU64::new(0);
/// Sender to the thread that writes.
static WRITER: OnceLock<SyncSender<Message>> = OnceLock::new();

enum Message {
    Line(Vec<u8>),
    /// Notified once all earlier lines are written.
    Flush(SyncSender<()>),
}

/// Starts logging, and passes spans to the exporter.
///
/// # Errors
/// When the filter is malformed.
pub fn start(filter: &str, format: Format, exporter: Option<&Exporter>) -> anyhow::Result<()> {
    // ONNX Runtime logs at `info` what it does to each node of each model, the hub's client logs at `error` what it also returns as an
    // error, and wasmtime's WASI warns of each wrong call of a component, which gets an error. The user's directives override these.
    let filter = EnvFilter::builder()
        .parse(format!(
            "async_nats=off,ort=warn,hf_hub=off,wasmtime_wasi=error,wasmtime_wasi_http=error,{filter}"
        ))
        .with_context(|| {
            format!("--log: \"{filter}\" is neither a level nor a list of directives")
        })?;
    let (sender, receiver) = sync_channel(QUEUE);
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || write(&receiver, io::stderr()))
        .context("cannot start the thread that writes the log")?;
    let sender = WRITER.get_or_init(|| sender).clone();
    let layer = tracing_subscriber::fmt::layer()
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(move || Queue(sender.clone()));
    let layer = match format {
        Format::Text => layer
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    };
    let spans: FilterFn = filter_fn(|metadata| metadata.target() == SPANS);
    let traces = exporter.map(|exporter| exporter.layer().with_filter(spans));
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .with(traces)
        .init();
    Ok(())
}

/// Waits until all logged lines are written, but no longer than a second.
pub fn flush() {
    let Some(sender) = WRITER.get() else { return };
    let (done, written) = sync_channel(1);
    // If the queue is full, the writer is stuck.
    if sender.try_send(Message::Flush(done)).is_ok() {
        let _ = written.recv_timeout(FLUSH_TIMEOUT);
    }
}

/// Enqueues lines without waiting.
struct Queue(SyncSender<Message>);

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.try_send(Message::Line(line.to_vec())).is_err() {
            LOST.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes queued lines in batches, and reports how many were lost once the log can be written again.
fn write(messages: &Receiver<Message>, mut to: impl Write) {
    let mut reported = 0;
    let mut batch = Vec::new();
    while let Ok(first) = messages.recv() {
        let mut lines = 0;
        let mut flushed = Vec::new();
        for message in std::iter::once(first).chain(messages.try_iter()) {
            match message {
                Message::Line(line) => {
                    lines += 1;
                    batch.extend_from_slice(&line);
                }
                Message::Flush(done) => flushed.push(done),
            }
            if batch.len() >= BATCH_SIZE {
                break;
            }
        }
        match to.write_all(&batch) {
            Ok(()) => {
                let lost = LOST.load(Relaxed);
                if lost > reported {
                    reported = lost;
                    tracing::warn!(
                        lost_lines = lost,
                        "log lines were lost since the start: standard error did not accept them"
                    );
                }
            }
            Err(_) => {
                LOST.fetch_add(lines, Relaxed);
            }
        }
        let queue_empty = batch.len() < BATCH_SIZE;
        batch.clear();
        if queue_empty && flushed.is_empty() {
            std::thread::sleep(BATCH_DELAY);
        }
        for done in flushed {
            let _ = done.send(());
        }
    }
}
