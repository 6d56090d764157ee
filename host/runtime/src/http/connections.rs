//! The open connections of a listener, limited in total and per client.
//!
//! A connection is idle while it has no request in flight: between two requests, or before the headers of the first have arrived.
//! At a limit, an idle connection is closed for a new one: clients that leave connections open keep nobody out.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::clients::network;

/// Marks a connection as busy, in place of the time since which it is idle.
const BUSY: u64 = u64::MAX;

/// How often busy connections are checked for clients that have disconnected.
#[cfg(target_os = "linux")]
const WATCH_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) struct Connections {
    max: usize,
    max_per_client: usize,
    started: Instant,
    /// The id of the next connection.
    next: AtomicU64,
    open: Mutex<HashMap<u64, Entry>>,
    /// Whether a caller waits for room.
    waiting: AtomicBool,
    /// Notified, while a caller waits, when a connection closes or becomes idle.
    changed: Notify,
}

struct Entry {
    network: IpAddr,
    activity: Arc<Activity>,
    /// `None` until it is served.
    task: Option<AbortHandle>,
    /// Duplicate of the connection's socket.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    socket: OwnedFd,
}

/// Time since which a connection is idle, in milliseconds after the listener's start, or [`BUSY`].
struct Activity(AtomicU64);

/// An open connection; dropping it makes room for another.
pub(super) struct OpenConnection {
    connections: Arc<Connections>,
    pub(super) id: u64,
    activity: Arc<Activity>,
}

/// Marks a connection as busy until dropped.
pub(super) struct BusyGuard(Arc<OpenConnection>);

/// The body of a response; the connection is busy until it is sent.
pub(super) struct TrackedBody<B> {
    body: B,
    _busy: BusyGuard,
}

impl Connections {
    /// Allows `max` open connections, `max_per_client` of them from one client.
    pub(super) fn new(max: usize, max_per_client: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            max_per_client,
            started: Instant::now(),
            next: AtomicU64::new(0),
            open: Mutex::default(),
            waiting: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    /// Waits until another connection can be admitted.
    pub(super) async fn wait_for_room(&self) {
        while !self.has_room() {
            let changed = self.changed.notified();
            // From now on, `made_room` notifies.
            self.waiting.store(true, Ordering::SeqCst);
            if !self.has_room() {
                changed.await;
            }
            self.waiting.store(false, Ordering::SeqCst);
        }
    }

    fn has_room(&self) -> bool {
        let open = self.open();
        open.len() < self.max || open.values().any(|entry| entry.activity.idle().is_some())
    }

    fn made_room(&self) {
        if self.waiting.load(Ordering::SeqCst) {
            self.changed.notify_one();
        }
    }

    /// Serves an admitted connection until it ends or is closed.
    pub(super) fn spawn(&self, id: u64, connection: impl Future<Output = ()> + Send + 'static) {
        let mut open = self.open();
        let task = tokio::spawn(connection).abort_handle();
        match open.get_mut(&id) {
            Some(entry) => entry.task = Some(task),
            None => task.abort(),
        }
    }

    /// Admits a connection, closing an idle one at a limit. Returns `None` if the client is at its limit and all its connections
    /// are busy.
    pub(super) fn admit(
        self: &Arc<Self>,
        address: SocketAddr,
        socket: impl AsFd,
    ) -> std::io::Result<Option<OpenConnection>> {
        let network = network(address.ip());
        let socket = socket.as_fd().try_clone_to_owned()?;
        let mut open = self.open();
        let of_client = |entry: &Entry| entry.network == network;
        if open.values().filter(|entry| of_client(entry)).count() >= self.max_per_client {
            let Some(id) = longest_idle(&open, of_client) else {
                return Ok(None);
            };
            close(&mut open, id);
        } else if open.len() >= self.max {
            let mut counts = HashMap::new();
            for entry in open.values() {
                *counts.entry(entry.network).or_insert(0) += 1;
            }
            let idle = open
                .values()
                .filter(|entry| entry.activity.idle().is_some());
            let busiest = idle.max_by_key(|entry| counts[&entry.network]);
            if let Some(network) = busiest.map(|entry| entry.network)
                && let Some(id) = longest_idle(&open, |entry| entry.network == network)
            {
                close(&mut open, id);
            }
        }
        let activity = Arc::new(Activity(AtomicU64::new(self.now())));
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(
            id,
            Entry {
                network,
                activity: Arc::clone(&activity),
                task: None,
                socket,
            },
        );
        Ok(Some(OpenConnection {
            connections: Arc::clone(self),
            id,
            activity,
        }))
    }

    /// Aborts busy connections whose clients have disconnected. hyper notices by itself, unless bytes from the client are still
    /// unread.
    #[cfg(target_os = "linux")]
    pub(super) async fn watch(self: Arc<Self>) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let mut interval = tokio::time::interval(WATCH_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let open = self.open();
            let busy: Vec<&Entry> = open
                .values()
                .filter(|entry| entry.activity.idle().is_none())
                .collect();
            let mut sockets: Vec<_> = busy
                .iter()
                .map(|entry| PollFd::new(&entry.socket, PollFlags::RDHUP))
                .collect();
            if let Err(error) = poll(&mut sockets, Some(&Timespec::default())) {
                tracing::warn!(%error, "cannot check which clients have disconnected");
                continue;
            }
            let disconnected = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
            for (entry, socket) in busy.iter().zip(&sockets) {
                if socket.revents().intersects(disconnected)
                    && let Some(task) = &entry.task
                {
                    task.abort();
                }
            }
        }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        // Nothing panics while the lock is held, so a poisoned map is still consistent.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn longest_idle(open: &HashMap<u64, Entry>, matches: impl Fn(&Entry) -> bool) -> Option<u64> {
    let idle = open
        .iter()
        .filter(|(_, entry)| matches(entry))
        .filter_map(|(&id, entry)| Some((entry.activity.idle()?, id)));
    idle.min().map(|(_, id)| id)
}

fn close(open: &mut HashMap<u64, Entry>, id: u64) {
    if let Some(entry) = open.remove(&id) {
        tracing::debug!(client = %entry.network, "closed an idle connection for a new one");
        if let Some(task) = entry.task {
            task.abort();
        }
    }
}

impl Activity {
    fn idle(&self) -> Option<u64> {
        Some(self.0.load(Ordering::SeqCst)).filter(|&since| since != BUSY)
    }
}

impl OpenConnection {
    /// Marks the connection as busy.
    pub(super) fn busy(self: &Arc<Self>) -> BusyGuard {
        self.activity.0.store(BUSY, Ordering::Relaxed);
        BusyGuard(Arc::clone(self))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.connections.open().remove(&self.id);
        self.connections.made_room();
    }
}

impl BusyGuard {
    pub(super) fn track<B>(self, body: B) -> TrackedBody<B> {
        TrackedBody { body, _busy: self }
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        let connections = &self.0.connections;
        self.0.activity.0.store(connections.now(), Ordering::SeqCst);
        connections.made_room();
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for TrackedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
