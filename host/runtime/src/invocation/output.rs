//! Output of a component for one invocation, logged up to a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use telemetry::trace::TraceId;
use tracing::field::{DisplayValue, display};
use uuid::Uuid;

use super::lines::Line;
use super::request_ids::RequestIds;
use super::target::Target;
use crate::text::escape_controls;

/// Cost of a line besides its bytes: about what time, level, component and request take in the log.
const LINE_COST: u64 = 128;

/// Maximum length of a URI in a warning, in bytes: the component chooses it.
const MAX_URI: usize = 1000;

/// Logs the output of one request up to its limit. On drop, warns if output was lost.
pub(crate) struct Output {
    target: Arc<Target>,
    /// `None` while an instance starts or is idle.
    ids: Option<RequestIds>,
    used: AtomicU64,
    /// Bytes that were not logged.
    dropped: AtomicU64,
}

impl Output {
    pub(crate) fn new(target: Arc<Target>, ids: Option<RequestIds>) -> Self {
        Self {
            target,
            ids,
            used: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    fn request_id(&self) -> Option<DisplayValue<Uuid>> {
        self.ids.map(|ids| display(ids.request))
    }

    fn trace_id(&self) -> Option<DisplayValue<TraceId>> {
        self.ids.map(|ids| display(ids.trace))
    }

    /// Counts a line of this length, and returns whether the limits of the request and of the component allow it.
    fn allows(&self, length: usize) -> bool {
        let cost = length as u64 + LINE_COST;
        let limit = self.target.limits.output.as_u64();
        let allowed = self.used.fetch_add(cost, Relaxed) + cost <= limit
            && self.target.telemetry.lines.may_print(cost);
        if !allowed {
            self.dropped.fetch_add(length as u64, Relaxed);
        }
        allowed
    }

    /// Logs a warning of the host about a call of the component, to a server if there is a `uri`, within the limits for what the
    /// component prints: it may cause any number of them.
    pub(crate) fn warn(&self, message: &str, uri: Option<&str>, error: Option<&str>) {
        let uri = uri.map(|uri| &uri[..uri.floor_char_boundary(MAX_URI)]);
        let length = |text: Option<&str>| text.map_or(0, str::len);
        if !self.allows(message.len() + length(uri) + length(error)) {
            return;
        }
        tracing::warn!(
            component = &*self.target.id,
            request_id = self.request_id(),
            trace_id = self.trace_id(),
            uri,
            error,
            "{message}"
        );
        let parts: Vec<&str> = [Some(message), uri, error].into_iter().flatten().collect();
        self.print(&parts.join(": "));
    }

    /// Logs an error of the host in a call of the component, whatever the component has printed.
    pub(crate) fn error(&self, message: &str, error: &str) {
        tracing::error!(
            component = &*self.target.id,
            request_id = self.request_id(),
            trace_id = self.trace_id(),
            error,
            "{message}"
        );
        self.print(&format!("{message}: {error}"));
    }

    /// Adds a line of the host to the component's own.
    fn print(&self, text: &str) {
        let line = Line::now("host", self.ids, escape_controls(text));
        self.target.telemetry.lines.print(line);
    }

    /// Logs a line, if the limits of the request and of the component allow it.
    pub(crate) fn line(&self, stream: &'static str, line: &[u8]) {
        if !self.allows(line.len()) {
            return;
        }
        let text = escape_controls(String::from_utf8_lossy(line).trim_end());
        let line = Line::now(stream, self.ids, text);
        tracing::info!(
            target: "component",
            component = &*self.target.id,
            stream,
            request_id = line.request_id,
            trace_id = self.trace_id(),
            "{}",
            line.text
        );
        self.target.telemetry.lines.print(line);
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let dropped = self.dropped.load(Relaxed);
        if dropped > 0 {
            tracing::warn!(
                component = &*self.target.id,
                request_id = self.request_id(),
                trace_id = self.trace_id(),
                dropped_bytes = dropped,
                "the component printed, or made the host log, more than its limit `output` allows; the rest was dropped"
            );
        }
    }
}
