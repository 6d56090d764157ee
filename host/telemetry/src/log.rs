//! The log: structured, on standard error; text for people, JSON for machines.
//!
//! A thread of its own writes it. Where standard error takes nothing any more (its reader has stopped, or the disk is full),
//! lines are lost, and counted, rather than requests. `tracing-appender` does not count lines that cannot be written, and
//! prints to standard output when it is dropped, which may be as stuck.

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Form of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Lines that wait to be written.
const QUEUE: usize = 4096;
/// Bytes that are written at once.
const PIECE: usize = 64 << 10;
/// How long lines gather for the next piece. Who logs a line wakes this thread only where it waits for one: under load that cost as
/// much as a small request.
const PAUSE: Duration = Duration::from_millis(1);
/// How long the end of the process waits for the lines before it.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Lines that were lost since the start.
static LOST: AtomicU64 = AtomicU64::new(0);
/// The way to the thread that writes.
static WRITER: OnceLock<SyncSender<Message>> = OnceLock::new();

enum Message {
    Line(Vec<u8>),
    /// Answered once all lines before it are written.
    Flush(SyncSender<()>),
}

/// Starts logging.
///
/// # Errors
/// When the filter is malformed.
pub fn start(filter: &str, format: Format) -> anyhow::Result<()> {
    // ONNX Runtime says at `info` what it does to each node of each model, and the hub's client at `error` what it then returns
    // as one. A directive of the user's goes before these.
    let filter = EnvFilter::builder()
        .parse(format!("ort=warn,hf_hub=off,{filter}"))
        .with_context(|| {
            format!("--log: \"{filter}\" is neither a level nor a list of directives")
        })?;
    let (sender, receiver) = sync_channel(QUEUE);
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || write(&receiver, io::stderr()))
        .context("cannot start the thread that writes the log")?;
    let sender = WRITER.get_or_init(|| sender).clone();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(move || Queue(sender.clone()));
    match format {
        Format::Text => builder
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Waits until what was logged is written, but no longer than a second.
pub fn flush() {
    let Some(sender) = WRITER.get() else { return };
    let (done, written) = sync_channel(1);
    // A full queue is not moving.
    if sender.try_send(Message::Flush(done)).is_ok() {
        let _ = written.recv_timeout(LAST_LINES);
    }
}

/// Takes lines without waiting.
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

/// Writes the lines that have come, in one piece, and says how many were lost once the log can be written again.
fn write(messages: &Receiver<Message>, mut to: impl Write) {
    let mut told = 0;
    let mut piece = Vec::new();
    while let Ok(first) = messages.recv() {
        let mut lines = 0;
        let mut flushed = Vec::new();
        for message in std::iter::once(first).chain(messages.try_iter()) {
            match message {
                Message::Line(line) => {
                    lines += 1;
                    piece.extend_from_slice(&line);
                }
                Message::Flush(done) => flushed.push(done),
            }
            if piece.len() >= PIECE {
                break;
            }
        }
        match to.write_all(&piece) {
            Ok(()) => {
                let lost = LOST.load(Relaxed);
                if lost > told {
                    told = lost;
                    tracing::warn!(
                        lost_lines = lost,
                        "lines of the log were lost since the start: standard error did not take them"
                    );
                }
            }
            Err(_) => {
                LOST.fetch_add(lines, Relaxed);
            }
        }
        let is_all = piece.len() < PIECE;
        piece.clear();
        if is_all && flushed.is_empty() {
            std::thread::sleep(PAUSE);
        }
        for done in flushed {
            let _ = done.send(());
        }
    }
}
