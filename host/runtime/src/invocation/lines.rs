//! What a component printed: the last lines, and those to come.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// Lines that are kept for later readers.
const MAX_LINES: usize = 1000;

/// Bytes of output that are logged of one component in a second, of all its requests together.
const MAX_OUTPUT_PER_SECOND: u64 = 4 << 20;

/// A line that a component printed, or that the host says of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// Seconds since 1970.
    pub time: f64,
    /// `stdout` or `stderr`; `host`: why the host ended a request, or what the component did wrong.
    pub stream: Cow<'static, str>,
    /// The request it was printed for, if any.
    pub request_id: Option<String>,
    /// The line, without its end.
    pub text: String,
}

impl Line {
    pub(crate) fn now(stream: &'static str, request_id: Option<uuid::Uuid>, text: String) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            time: now.map_or(0.0, |since| since.as_secs_f64()),
            stream: stream.into(),
            request_id: request_id.map(|id| id.to_string()),
            text,
        }
    }
}

/// The output of one component.
pub(crate) struct Lines {
    /// The second that output is counted in, since the start of the process, and the bytes in it.
    printed: Mutex<(u64, u64)>,
    last: Mutex<VecDeque<Line>>,
    live: broadcast::Sender<Line>,
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
    /// Whether so many more bytes of output may be logged in this second. If so, they are counted.
    pub(crate) fn may_print(&self, bytes: u64) -> bool {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        let second = START.elapsed().as_secs();
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        if printed.0 != second {
            *printed = (second, 0);
        }
        let within = printed.1 + bytes <= MAX_OUTPUT_PER_SECOND;
        if within {
            printed.1 += bytes;
        }
        within
    }

    pub(crate) fn print(&self, line: Line) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == MAX_LINES {
            last.pop_front();
        }
        last.push_back(line.clone());
        // Nobody may be listening.
        let _ = self.live.send(line);
    }

    /// The last lines, and those to come.
    pub(crate) fn subscribe(&self) -> (Vec<Line>, broadcast::Receiver<Line>) {
        // Subscribed under the lock, so that no line is missed or told twice.
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (last.iter().cloned().collect(), self.live.subscribe())
    }
}
