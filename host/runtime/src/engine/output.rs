//! What a component writes to its standard output and error goes to the host's log, line by line, with the component's
//! id and the request's.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use super::component::Settings;
use super::figures::{Line, Observed};
use super::instance::{Current, lock};

/// A longer line is cut into pieces, so that a component that writes no newline cannot fill the host's memory.
const MAX_LINE: usize = 8 << 10;

#[derive(Clone)]
pub(super) struct GuestOutput {
    component: Arc<str>,
    stream: &'static str,
    current: Current,
    observed: Arc<Observed>,
}

impl GuestOutput {
    pub(super) fn stdout(settings: &Settings, current: &Current) -> Self {
        Self::new("stdout", settings, current)
    }

    pub(super) fn stderr(settings: &Settings, current: &Current) -> Self {
        Self::new("stderr", settings, current)
    }

    fn new(stream: &'static str, settings: &Settings, current: &Current) -> Self {
        Self {
            component: Arc::clone(&settings.id),
            stream,
            current: Arc::clone(current),
            observed: Arc::clone(&settings.observed),
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
        let text = String::from_utf8_lossy(line).trim_end().to_owned();
        let request_id = lock(&self.output.current)
            .control
            .as_ref()
            .map(|c| c.request_id.to_string());
        tracing::info!(
            target: "component",
            component = &*self.output.component,
            stream = self.output.stream,
            request_id,
            "{text}"
        );
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.output.observed.print(Line {
            time: now.map_or(0.0, |since| since.as_secs_f64()),
            stream: self.output.stream,
            request_id,
            text,
        });
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
