//! Standard output and error of components. They go to the host's log, line by line, with the component's id and the
//! request's. The amount is limited: a component can neither flood the log nor keep a thread busy with it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use super::current::{Current, lock};
use crate::invocation::Output;

/// Longer lines are split, so that a component that writes no newline cannot fill the host's memory.
const MAX_LINE: usize = 8 << 10;
/// Bytes that are accepted before the thread is yielded.
const SLICE: usize = 64 << 10;

#[derive(Clone)]
pub(super) struct GuestOutput {
    stream: &'static str,
    current: Current,
    /// For output outside of any request.
    idle: Arc<Output>,
}

impl GuestOutput {
    /// Returns standard output and standard error of one instance.
    pub(super) fn both(idle: &Arc<Output>, current: &Current) -> [Self; 2] {
        ["stdout", "stderr"].map(|stream| Self {
            stream,
            current: Arc::clone(current),
            idle: Arc::clone(idle),
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
            accepted: 0,
        })
    }
}

struct Lines {
    output: GuestOutput,
    /// An incomplete line, shorter than [`MAX_LINE`].
    pending: Vec<u8>,
    /// Bytes accepted since the thread was last yielded.
    accepted: usize,
}

impl Lines {
    fn emit(&self, line: &[u8]) {
        let invocation = lock(&self.output.current).invocation.clone();
        match invocation {
            Some(invocation) => invocation.output.line(self.output.stream, line),
            None => self.output.idle.line(self.output.stream, line),
        }
    }

    /// Adds bytes, and emits complete lines.
    fn push(&mut self, bytes: &[u8]) {
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
        if self.accepted >= SLICE {
            self.accepted = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let bytes = &bytes[..bytes.len().min(SLICE - self.accepted)];
        self.accepted += bytes.len();
        self.push(bytes);
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
