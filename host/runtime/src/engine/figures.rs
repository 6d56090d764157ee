//! What is counted of each component, over all of its revisions, and the last lines it printed.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::broadcast;

/// Lines of a component's output that are kept for those who ask later.
const KEPT_LINES: usize = 1000;

/// Bytes of output that are logged of one component in a second, of all its requests together.
const OUTPUT_A_SECOND: u64 = 4 << 20;

/// Counters and output of one component.
pub(crate) struct Observed {
    requests: AtomicU64,
    traps: AtomicU64,
    timeouts: AtomicU64,
    refused: AtomicU64,
    memory: AtomicU64,
    instance_nanos: AtomicU64,
    queue_nanos: AtomicU64,
    /// The second that output is counted in, since the start of the process, and the bytes in it.
    printed: Mutex<(u64, u64)>,
    lines: Mutex<VecDeque<Line>>,
    live: broadcast::Sender<Line>,
}

/// A line that a component printed, or that the host says of it.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Seconds since 1970.
    pub time: f64,
    /// `stdout` or `stderr`; `host`: why the host ended a request, or what the component did wrong.
    pub stream: &'static str,
    /// The request it was printed for, if any.
    pub request_id: Option<String>,
    /// The line, without its end.
    pub text: String,
}

impl Line {
    pub(super) fn now(stream: &'static str, request_id: Option<uuid::Uuid>, text: String) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            time: now.map_or(0.0, |since| since.as_secs_f64()),
            stream,
            request_id: request_id.map(|id| id.to_string()),
            text,
        }
    }
}

/// The counters of a component at one moment. All but the first two are totals since the host's start.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figures {
    /// Requests that run.
    pub running: usize,
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// Requests that were let in.
    pub requests: u64,
    /// Requests that ended in a trap, or without an answer.
    pub traps: u64,
    /// Requests that were stopped at a limit: time, CPU, memory, body.
    pub timeouts: u64,
    /// Requests that were turned away because too many ran and waited.
    pub refused: u64,
    /// The most memory that one instance had, in bytes.
    pub memory_high_water: u64,
    /// Time that requests ran, in seconds.
    pub instance_seconds: f64,
    /// Time that requests waited for their turn, in seconds.
    pub queue_seconds: f64,
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            requests: AtomicU64::default(),
            traps: AtomicU64::default(),
            timeouts: AtomicU64::default(),
            refused: AtomicU64::default(),
            memory: AtomicU64::default(),
            instance_nanos: AtomicU64::default(),
            queue_nanos: AtomicU64::default(),
            printed: Mutex::default(),
            lines: Mutex::default(),
            live: broadcast::channel(256).0,
        }
    }
}

impl Observed {
    pub(crate) fn request(&self, queued: Duration) {
        self.requests.fetch_add(1, Relaxed);
        self.queue_nanos.fetch_add(nanos(queued), Relaxed);
    }

    pub(crate) fn trap(&self) {
        self.traps.fetch_add(1, Relaxed);
    }

    pub(crate) fn timeout(&self) {
        self.timeouts.fetch_add(1, Relaxed);
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn memory(&self, bytes: usize) {
        self.memory.fetch_max(bytes as u64, Relaxed);
    }

    pub(crate) fn ran(&self, time: Duration) {
        self.instance_nanos.fetch_add(nanos(time), Relaxed);
    }

    /// Whether so many more bytes of output may be logged in this second. If so, they are counted.
    pub(crate) fn may_print(&self, bytes: u64) -> bool {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        let second = START.elapsed().as_secs();
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        if printed.0 != second {
            *printed = (second, 0);
        }
        let within = printed.1 + bytes <= OUTPUT_A_SECOND;
        if within {
            printed.1 += bytes;
        }
        within
    }

    pub(crate) fn print(&self, line: Line) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line.clone());
        // Nobody may be listening.
        let _ = self.live.send(line);
    }

    /// The lines kept, and those to come.
    pub(crate) fn lines(&self) -> (Vec<Line>, broadcast::Receiver<Line>) {
        // Subscribed under the lock, so that no line is missed or told twice.
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        (lines.iter().cloned().collect(), self.live.subscribe())
    }

    pub(crate) fn figures(&self, running: usize, waiting: usize) -> Figures {
        let seconds = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Relaxed)).as_secs_f64();
        Figures {
            running,
            waiting,
            requests: self.requests.load(Relaxed),
            traps: self.traps.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            refused: self.refused.load(Relaxed),
            memory_high_water: self.memory.load(Relaxed),
            instance_seconds: seconds(&self.instance_nanos),
            queue_seconds: seconds(&self.queue_nanos),
        }
    }
}

/// All components' counters, by id. They outlive revisions, and end with the component's removal.
#[derive(Default)]
pub(crate) struct Registry(Mutex<HashMap<String, Weak<Observed>>>);

impl Registry {
    pub(crate) fn of(&self, id: &str) -> Arc<Observed> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, observed| observed.strong_count() > 0);
        if let Some(observed) = all.get(id).and_then(Weak::upgrade) {
            return observed;
        }
        let observed = Arc::default();
        all.insert(id.to_owned(), Arc::downgrade(&observed));
        observed
    }
}

/// 584 years fit.
fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
