//! What a component writes to its standard output and error goes to the host's log, line by line, with the component's
//! id and the request's. How much that may be is bounded: a component cannot fill the log, or keep a thread busy with it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use super::component::Settings;
use super::figures::Line;
use super::instance::{Current, lock};

/// A longer line is cut into pieces, so that a component that writes no newline cannot fill the host's memory.
const MAX_LINE: usize = 8 << 10;
/// Bytes that are taken before the thread is handed on to others.
const SLICE: usize = 64 << 10;
/// What a line costs beside its bytes: about what time, level, component and request take in the log.
const LINE_COST: u64 = 128;

/// How much of its output one request has had logged, and what was dropped beyond its limit. Says so when it is dropped itself.
pub(super) struct Printed {
    settings: Arc<Settings>,
    /// None while an instance starts, and while it is idle.
    request_id: Option<uuid::Uuid>,
    used: AtomicU64,
    dropped: AtomicU64,
}

impl Printed {
    pub(super) fn new(settings: Arc<Settings>, request_id: Option<uuid::Uuid>) -> Self {
        Self {
            settings,
            request_id,
            used: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Logs a line, if there is room for it within the limits of the request and of the component.
    fn line(&self, stream: &'static str, line: &[u8]) {
        let cost = line.len() as u64 + LINE_COST;
        let limit = self.settings.limits.output.as_u64();
        let within = self.used.fetch_add(cost, Relaxed) + cost <= limit;
        if !within || !self.settings.observed.may_print(cost) {
            self.dropped.fetch_add(line.len() as u64, Relaxed);
            return;
        }
        let text = visible(String::from_utf8_lossy(line).trim_end());
        let line = Line::now(stream, self.request_id, text);
        tracing::info!(
            target: "component",
            component = &*self.settings.id,
            stream,
            request_id = line.request_id,
            "{}",
            line.text
        );
        self.settings.observed.print(line);
    }
}

/// The text with all that would move a terminal's cursor, or turn the order of what is shown, written as `\u{…}`.
pub(crate) fn visible(text: &str) -> String {
    let hidden = |c: char| {
        // Marks that set the direction of text (Unicode Standard Annex 9), and separators of lines and paragraphs.
        let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        turns || (c.is_control() && c != '\t')
    };
    let plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
    if text.bytes().all(plain) || !text.contains(hidden) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match hidden(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

impl Drop for Printed {
    fn drop(&mut self) {
        let dropped = self.dropped.load(Relaxed);
        if dropped > 0 {
            tracing::warn!(
                component = &*self.settings.id,
                request_id = self.request_id.map(tracing::field::display),
                dropped_bytes = dropped,
                "the component printed more than its limit `output` allows; the rest was dropped"
            );
        }
    }
}

#[derive(Clone)]
pub(super) struct GuestOutput {
    stream: &'static str,
    current: Current,
    /// For what is printed outside of any request.
    idle: Arc<Printed>,
}

impl GuestOutput {
    /// Standard output and standard error of one instance.
    pub(super) fn both(settings: &Arc<Settings>, current: &Current) -> [Self; 2] {
        let idle = Arc::new(Printed::new(Arc::clone(settings), None));
        ["stdout", "stderr"].map(|stream| Self {
            stream,
            current: Arc::clone(current),
            idle: Arc::clone(&idle),
        })
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Lines {
            output: self.clone(),
            pending: Vec::new(),
            taken: 0,
        })
    }
}

struct Lines {
    output: GuestOutput,
    /// The beginning of a line, shorter than [`MAX_LINE`].
    pending: Vec<u8>,
    /// Bytes taken since the thread was handed on.
    taken: usize,
}

impl Lines {
    fn emit(&self, line: &[u8]) {
        let control = lock(&self.output.current).control.clone();
        match control {
            Some(control) => control.printed.line(self.output.stream, line),
            None => self.output.idle.line(self.output.stream, line),
        }
    }

    /// Takes bytes, and emits the lines that end in them.
    fn take(&mut self, bytes: &[u8]) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut rest = line;
            while self.pending.len() + rest.len() >= MAX_LINE {
                let (piece, after) = rest.split_at(MAX_LINE - self.pending.len());
                self.pending.extend_from_slice(piece);
                self.emit(&self.pending);
                self.pending.clear();
                rest = after;
            }
            self.pending.extend_from_slice(rest);
            if rest.ends_with(b"\n") {
                self.emit(&self.pending);
                self.pending.clear();
            }
        }
    }
}

impl AsyncWrite for Lines {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.taken >= SLICE {
            self.taken = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let bytes = &bytes[..bytes.len().min(SLICE - self.taken)];
        self.taken += bytes.len();
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            self.emit(&self.pending);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn what_a_terminal_would_act_on_is_shown_as_text() {
        assert_eq!(visible("Grüße,\t世界"), "Grüße,\t世界");
        assert_eq!(visible("ok\rforged"), "ok\\u{d}forged");
        assert_eq!(
            visible("\x1b[2Ja\u{202e}b\u{2028}c"),
            "\\u{1b}[2Ja\\u{202e}b\\u{2028}c"
        );
    }
}
