//! What a component writes to its standard output and error goes to the host's log, line by line, with the component's
//! id and the request's.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use super::instance::{Current, lock};

/// A longer line is cut into pieces, so that a component that writes no newline cannot fill the host's memory.
const MAX_LINE: usize = 8 << 10;

#[derive(Clone)]
pub(super) struct GuestOutput {
    component: Arc<str>,
    stream: &'static str,
    current: Current,
}

impl GuestOutput {
    pub(super) fn stdout(component: &Arc<str>, current: &Current) -> Self {
        Self {
            component: Arc::clone(component),
            stream: "stdout",
            current: Arc::clone(current),
        }
    }

    pub(super) fn stderr(component: &Arc<str>, current: &Current) -> Self {
        Self {
            component: Arc::clone(component),
            stream: "stderr",
            current: Arc::clone(current),
        }
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
        })
    }
}

struct Lines {
    output: GuestOutput,
    pending: Vec<u8>,
}

impl Lines {
    fn emit(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let request_id = lock(&self.output.current)
            .as_ref()
            .map(|c| tracing::field::display(c.request_id));
        tracing::info!(
            target: "component",
            component = &*self.output.component,
            stream = self.output.stream,
            request_id,
            "{}", text.trim_end()
        );
    }
}

impl AsyncWrite for Lines {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pending.extend_from_slice(bytes);
        while let Some(end) = self.pending.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            self.emit(&line);
        }
        while self.pending.len() >= MAX_LINE {
            let line: Vec<u8> = self.pending.drain(..MAX_LINE).collect();
            self.emit(&line);
        }
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
