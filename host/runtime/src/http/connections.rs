//! The open connections of a listener: so many, and of each client no more than its share.
//!
//! A connection is idle while none of its requests is under way: between two of them, or before the headers of the first have
//! come. Where there is no room for another one, an idle one is closed: clients that open connections and leave them keep nobody out.

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

/// In place of the time since when a connection is idle.
const BUSY: u64 = u64::MAX;

/// How often the connections with a request under way are looked at.
#[cfg(target_os = "linux")]
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) struct Connections {
    most: usize,
    share: usize,
    begun: Instant,
    /// The id of the next connection.
    next: AtomicU64,
    open: Mutex<HashMap<u64, Entry>>,
    /// Another connection is waited for.
    full: AtomicBool,
    /// While one is: a connection has been closed, or is idle.
    changed: Notify,
}

struct Entry {
    network: IpAddr,
    activity: Arc<Activity>,
    /// None until it is served.
    task: Option<AbortHandle>,
    /// The same socket as the connection's.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    socket: OwnedFd,
}

/// Milliseconds since the listener's begin from when on a connection is idle, or [`BUSY`].
struct Activity(AtomicU64);

/// An open connection. Dropping it makes room for another.
pub(super) struct Open {
    connections: Arc<Connections>,
    pub(super) id: u64,
    activity: Arc<Activity>,
}

/// A request under way; the connection is idle when it is dropped.
pub(super) struct Busy(Arc<Open>);

/// The body of an answer, whose request is under way until it is sent.
pub(super) struct Tracked<B> {
    body: B,
    _busy: Busy,
}

impl Connections {
    /// At most `most` at once, and `share` of one client.
    pub(super) fn new(most: usize, share: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            share,
            begun: Instant::now(),
            next: AtomicU64::new(0),
            open: Mutex::default(),
            full: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    /// Waits until another connection can be admitted.
    pub(super) async fn room(&self) {
        while !self.has_room() {
            let changed = self.changed.notified();
            // Whoever makes room from now on says so.
            self.full.store(true, Ordering::SeqCst);
            if !self.has_room() {
                changed.await;
            }
            self.full.store(false, Ordering::SeqCst);
        }
    }

    fn has_room(&self) -> bool {
        let open = self.open();
        open.len() < self.most || open.values().any(|entry| entry.activity.idle().is_some())
    }

    fn made_room(&self) {
        if self.full.load(Ordering::SeqCst) {
            self.changed.notify_one();
        }
    }

    /// Serves a connection that was admitted, until its end or until it is closed.
    pub(super) fn spawn(&self, id: u64, connection: impl Future<Output = ()> + Send + 'static) {
        let mut open = self.open();
        let task = tokio::spawn(connection).abort_handle();
        match open.get_mut(&id) {
            Some(entry) => entry.task = Some(task),
            None => task.abort(),
        }
    }

    /// Takes the connection, and closes an idle one if there are too many. Gives none if all of this client's have requests under
    /// way, and are as many as it may have.
    pub(super) fn admit(
        self: &Arc<Self>,
        address: SocketAddr,
        socket: impl AsFd,
    ) -> std::io::Result<Option<Open>> {
        let network = network(address.ip());
        let socket = socket.as_fd().try_clone_to_owned()?;
        let mut open = self.open();
        let of_client = |entry: &Entry| entry.network == network;
        if open.values().filter(|entry| of_client(entry)).count() >= self.share {
            let Some(id) = longest_idle(&open, of_client) else {
                return Ok(None);
            };
            close(&mut open, id);
        } else if open.len() >= self.most {
            let mut counts = HashMap::new();
            for entry in open.values() {
                *counts.entry(entry.network).or_insert(0) += 1;
            }
            let idle = open
                .values()
                .filter(|entry| entry.activity.idle().is_some());
            let most = idle.max_by_key(|entry| counts[&entry.network]);
            if let Some(network) = most.map(|entry| entry.network)
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
        Ok(Some(Open {
            connections: Arc::clone(self),
            id,
            activity,
        }))
    }

    /// Ends the connections whose clients have gone while a request is under way. hyper notices by itself unless bytes of the client
    /// are still unread.
    #[cfg(target_os = "linux")]
    pub(super) async fn watch(self: Arc<Self>) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let mut interval = tokio::time::interval(LOOK);
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
                tracing::warn!(%error, "cannot tell which clients have gone");
                continue;
            }
            let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
            for (entry, socket) in busy.iter().zip(&sockets) {
                if socket.revents().intersects(gone)
                    && let Some(task) = &entry.task
                {
                    task.abort();
                }
            }
        }
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        // Nothing panics while the lock is held, so a poisoned map is still whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn longest_idle(open: &HashMap<u64, Entry>, of: impl Fn(&Entry) -> bool) -> Option<u64> {
    let idle = open
        .iter()
        .filter(|(_, entry)| of(entry))
        .filter_map(|(&id, entry)| Some((entry.activity.idle()?, id)));
    idle.min().map(|(_, id)| id)
}

fn close(open: &mut HashMap<u64, Entry>, id: u64) {
    if let Some(entry) = open.remove(&id) {
        tracing::debug!(client = %entry.network, "an idle connection is closed for another");
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

impl Open {
    /// A request of the connection is under way.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.activity.0.store(BUSY, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.open().remove(&self.id);
        self.connections.made_room();
    }
}

impl Busy {
    pub(super) fn until_sent<B>(self, body: B) -> Tracked<B> {
        Tracked { body, _busy: self }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let connections = &self.0.connections;
        self.0.activity.0.store(connections.now(), Ordering::SeqCst);
        connections.made_room();
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tracked<B> {
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
