//! Output of a component: the last lines, and a channel of further ones.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::request_ids::RequestIds;

/// Number of lines kept for later readers, and their bytes.
const MAX_LINES: usize = 1000;
const MAX_BYTES: usize = 1 << 20;

/// Limit on the logged output of one component, over all its requests, in bytes per second.
const MAX_OUTPUT_PER_SECOND: u64 = 4 << 20;

/// A line that a component printed, or that the host reports about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// Seconds since 1970.
    pub time: f64,
    /// `stdout`, `stderr`, or `host` for why the host stopped a request or how the component failed.
    pub stream: Cow<'static, str>,
    /// The request it was printed for, if any.
    pub request_id: Option<String>,
    /// The line, without line ending.
    pub text: String,
}

impl Line {
    pub(crate) fn now(stream: &'static str, ids: Option<RequestIds>, text: String) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            time: now.map_or(0.0, |since| since.as_secs_f64()),
            stream: stream.into(),
            request_id: ids.map(|ids| ids.request.to_string()),
            text,
        }
    }
}

/// The output of one component.
pub(crate) struct Lines {
    /// The current second since the start of the process, and the bytes printed in it.
    printed: Mutex<(u64, u64)>,
    last: Mutex<Last>,
    live: broadcast::Sender<Line>,
}

/// The last lines.
#[derive(Default)]
struct Last {
    lines: VecDeque<Line>,
    bytes: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            printed: Mutex::default(),
            last: Mutex::default(),
            live: broadcast::channel(256).0,
        }
    }
}

impl Lines {
    /// Returns whether `bytes` more may be logged in this second, and counts them if so.
    pub(crate) fn may_print(&self, bytes: u64) -> bool {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        let second = START.elapsed().as_secs();
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        if printed.0 != second {
            *printed = (second, 0);
        }
        let allowed = printed.1 + bytes <= MAX_OUTPUT_PER_SECOND;
        if allowed {
            printed.1 += bytes;
        }
        allowed
    }

    pub(crate) fn print(&self, line: Line) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.bytes += line.text.len();
        last.lines.push_back(line.clone());
        while last.lines.len() > MAX_LINES || last.bytes > MAX_BYTES {
            let Some(first) = last.lines.pop_front() else {
                break;
            };
            last.bytes -= first.text.len();
        }
        // Fails if there is no receiver.
        let _ = self.live.send(line);
    }

    /// Returns the last lines, and a receiver of further ones.
    pub(crate) fn subscribe(&self) -> (Vec<Line>, broadcast::Receiver<Line>) {
        // Subscribed under the lock, so that no line is missed or repeated.
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (last.lines.iter().cloned().collect(), self.live.subscribe())
    }
}
