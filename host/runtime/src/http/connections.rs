//! The open connections of a listener: so many, and of each client no more than its share.
//!
//! A connection is idle while none of its requests is under way: between two of them, or before the headers of the first have
//! come. Where there is no room for another one, an idle one is closed: clients that open connections and leave them keep nobody out.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

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
    /// A connection has been closed, or is idle.
    changed: Notify,
}

struct Entry {
    network: IpAddr,
    activity: Arc<Activity>,
    end: Arc<Notify>,
    /// The same socket as the connection's.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    socket: OwnedFd,
}

/// Milliseconds since the listener's begin from when on a connection is idle, or [`BUSY`].
struct Activity(AtomicU64);

/// An open connection. Dropping it makes room for another.
pub(super) struct Open {
    connections: Arc<Connections>,
    id: u64,
    activity: Arc<Activity>,
    end: Arc<Notify>,
}

/// A request under way; the connection is idle when it is dropped.
pub(super) struct Busy {
    connections: Arc<Connections>,
    activity: Arc<Activity>,
}

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
            changed: Notify::new(),
        })
    }

    /// Waits until another connection can be admitted.
    pub(super) async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let open = self.open();
                if open.len() < self.most
                    || open.values().any(|entry| entry.activity.idle().is_some())
                {
                    return;
                }
            }
            changed.await;
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
        let end = Arc::new(Notify::new());
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(
            id,
            Entry {
                network,
                activity: Arc::clone(&activity),
                end: Arc::clone(&end),
                socket,
            },
        );
        Ok(Some(Open {
            connections: Arc::clone(self),
            id,
            activity,
            end,
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
                if socket.revents().intersects(gone) {
                    entry.end.notify_one();
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
        entry.end.notify_one();
    }
}

impl Activity {
    fn idle(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&since| since != BUSY)
    }
}

impl Open {
    /// A request of the connection is under way.
    pub(super) fn busy(&self) -> Busy {
        self.activity.0.store(BUSY, Ordering::Relaxed);
        Busy {
            connections: Arc::clone(&self.connections),
            activity: Arc::clone(&self.activity),
        }
    }

    /// Waits until the connection is to be closed.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.open().remove(&self.id);
        self.connections.changed.notify_one();
    }
}

impl Busy {
    pub(super) fn until_sent<B>(self, body: B) -> Tracked<B> {
        Tracked { body, _busy: self }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.activity
            .0
            .store(self.connections.now(), Ordering::Relaxed);
        self.connections.changed.notify_one();
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
