//! Admission of requests: which ones run and which is next, with permits shared fairly among clients.
//!
//! A client may have as many running requests as it leaves permits free for others (the dynamic thresholds of Choudhury and Hahne,
//! 1998, for shared buffers), or a configured number. A permit that becomes free goes to the client with the fewest running
//! requests, among equals to the one that has waited longest. In a full queue, a new request displaces the last one of the client
//! that has the most.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::Gauge;
use tokio::sync::oneshot;

use super::caller::Caller;

/// Admission of the requests of one component, or of all components.
pub(crate) struct Admission {
    /// Limit on running requests.
    concurrency: usize,
    /// Limit on running requests per client. `None`: as many as it leaves free.
    share: Option<usize>,
    /// Limit on waiting requests.
    queue: usize,
    requests: Mutex<Requests>,
    gauges: Gauges,
}

/// Gauges of running and waiting requests.
pub(super) struct Gauges {
    pub(super) running: Gauge,
    pub(super) waiting: Gauge,
}

impl Default for Gauges {
    /// Returns gauges that are not recorded.
    fn default() -> Self {
        Self {
            running: Gauge::noop(),
            waiting: Gauge::noop(),
        }
    }
}

impl Gauges {
    fn set(&self, requests: &Requests) {
        self.running.set(requests.running as f64);
        self.waiting.set(requests.waiting as f64);
    }
}

#[derive(Default)]
struct Requests {
    running: usize,
    waiting: usize,
    next_ticket: u64,
    /// Callers that have requests.
    clients: BTreeMap<Caller, ClientState>,
}

#[derive(Default)]
struct ClientState {
    running: usize,
    /// Ordered by ticket.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    ticket: u64,
    turn: oneshot::Sender<Permit>,
}

/// Permit for one running request; dropping it admits the next.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    client: Caller,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The queue is full.
    Full,
    /// The queue was full, and another client's request displaced it.
    Displaced,
    /// It waited too long.
    TimedOut,
}

/// A request's slot in the queue, freed on drop.
struct QueueSlot<'a> {
    admission: &'a Admission,
    client: Caller,
    ticket: u64,
}

impl Admission {
    pub(super) fn new(
        concurrency: usize,
        share: Option<usize>,
        queue: usize,
        gauges: Gauges,
    ) -> Self {
        Self {
            concurrency,
            share,
            queue,
            requests: Mutex::default(),
            gauges,
        }
    }

    /// Waits until a request of this client, or of the host itself, may run, at most for `timeout`. Returns the time it waited, too.
    ///
    /// # Errors
    /// When the queue is full, when the wait is too long, or when another client's request displaces it.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        client: Caller,
        timeout: Duration,
    ) -> Result<(Permit, Duration), Refused> {
        let (slot, turn) = {
            let mut requests = self.requests();
            if requests.running < self.concurrency {
                let share = self.share_of(client, requests.running);
                let state = requests.clients.entry(client).or_default();
                if state.running < share {
                    state.running += 1;
                    requests.running += 1;
                    self.gauges.set(&requests);
                    return Ok((self.permit(client), Duration::ZERO));
                }
            }
            requests.make_room(self.queue, client)?;
            let (ticket, turn) = requests.enqueue(client);
            self.gauges.set(&requests);
            let slot = QueueSlot {
                admission: self,
                client,
                ticket,
            };
            (slot, turn)
        };
        let arrived = Instant::now();
        let permit = tokio::time::timeout(timeout, turn).await;
        drop(slot);
        match permit {
            Ok(Ok(permit)) => Ok((permit, arrived.elapsed())),
            Ok(Err(_)) => Err(Refused::Displaced),
            Err(_) => Err(Refused::TimedOut),
        }
    }

    /// Returns the numbers of running and waiting requests.
    #[cfg(test)]
    fn counts(&self) -> (usize, usize) {
        let requests = self.requests();
        (requests.running, requests.waiting)
    }

    /// Returns how many requests of a client may run while `running` run in total. The host itself has no limit of its own.
    fn share_of(&self, client: Caller, running: usize) -> usize {
        match client {
            Caller::Client(_) | Caller::Queue | Caller::Jobs => self
                .share
                .unwrap_or_else(|| self.concurrency.saturating_sub(running)),
            Caller::Host => usize::MAX,
        }
    }

    fn permit(self: &Arc<Self>, client: Caller) -> Permit {
        Permit {
            admission: Arc::clone(self),
            client,
        }
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        // Nothing panics while the lock is held, so the counts of a poisoned lock are still correct.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests {
    fn waiting_of(&self, client: Caller) -> usize {
        self.clients
            .get(&client)
            .map_or(0, |state| state.waiting.len())
    }

    /// Makes room in the queue for a request of this client, by displacing one of the client with the most, if that has more.
    fn make_room(&mut self, queue: usize, client: Caller) -> Result<(), Refused> {
        if self.waiting < queue {
            return Ok(());
        }
        let own = self.waiting_of(client) + 1;
        let most = self
            .clients
            .values_mut()
            .max_by_key(|state| state.waiting.len());
        let most = most.filter(|state| state.waiting.len() > own);
        // Dropping its sender notifies the displaced request.
        most.and_then(|state| state.waiting.pop_back())
            .ok_or(Refused::Full)?;
        self.waiting -= 1;
        Ok(())
    }

    /// Adds a request to the queue. Returns its ticket and the receiver of its permit.
    fn enqueue(&mut self, client: Caller) -> (u64, oneshot::Receiver<Permit>) {
        let (turn, wait) = oneshot::channel();
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting += 1;
        let state = self.clients.entry(client).or_default();
        state.waiting.push_back(Waiting { ticket, turn });
        (ticket, wait)
    }

    /// Updates a client when a request of it has ended or left the queue. Clients without requests are removed.
    fn update(&mut self, client: Caller, update: impl FnOnce(&mut ClientState)) {
        if let Entry::Occupied(mut entry) = self.clients.entry(client) {
            update(entry.get_mut());
            if entry.get().running == 0 && entry.get().waiting.is_empty() {
                entry.remove();
            }
        }
    }

    /// Takes the next request from the queue and counts it as running.
    fn next(
        &mut self,
        share_of: impl Fn(Caller, usize) -> usize,
    ) -> Option<(Caller, oneshot::Sender<Permit>)> {
        let running = self.running;
        let eligible = self.clients.iter_mut().filter_map(|(&client, state)| {
            let first = state.waiting.front()?.ticket;
            (state.running < share_of(client, running)).then_some((
                state.running,
                first,
                client,
                state,
            ))
        });
        let (_, _, client, state) =
            eligible.min_by_key(|&(running, first, ..)| (running, first))?;
        let waiting = state.waiting.pop_front()?;
        state.running += 1;
        self.running += 1;
        self.waiting -= 1;
        Some((client, waiting.turn))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let admission = &self.admission;
        let next = {
            let mut requests = admission.requests();
            requests.running -= 1;
            requests.update(self.client, |state| state.running -= 1);
            let next = match requests.waiting {
                0 => None,
                _ => requests.next(|client, running| admission.share_of(client, running)),
            };
            admission.gauges.set(&requests);
            next
        };
        // Outside the lock: if the receiver is gone, dropping the permit admits the next request.
        if let Some((client, turn)) = next {
            let _ = turn.send(admission.permit(client));
        }
    }
}

impl Drop for QueueSlot<'_> {
    fn drop(&mut self) {
        let mut requests = self.admission.requests();
        let mut left = 0;
        requests.update(self.client, |state| {
            let at = state
                .waiting
                .binary_search_by_key(&self.ticket, |w| w.ticket);
            if let Ok(at) = at {
                state.waiting.remove(at);
                left = 1;
            }
        });
        requests.waiting -= left;
        self.admission.gauges.set(&requests);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    type Request = JoinHandle<Result<Permit, Refused>>;

    fn admission(concurrency: usize, share: usize, queue: usize) -> Arc<Admission> {
        Arc::new(Admission::new(
            concurrency,
            Some(share),
            queue,
            Gauges::default(),
        ))
    }

    fn client(last: u8) -> Caller {
        Caller::Client([192, 0, 2, last].into())
    }

    /// Starts a request, which runs, waits or has been refused on return.
    async fn start(admission: &Arc<Admission>, client: Caller) -> Request {
        let admission = Arc::clone(admission);
        let acquire = async move {
            let admitted = admission.acquire(client, Duration::from_secs(60)).await;
            admitted.map(|(permit, _)| permit)
        };
        let request = tokio::spawn(acquire);
        settle().await;
        request
    }

    async fn settle() {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    async fn outcome(request: Request) -> Result<Permit, Refused> {
        assert!(request.is_finished(), "it is waiting");
        request.await.unwrap()
    }

    #[tokio::test]
    async fn a_client_gets_no_more_than_its_share() {
        let admission = admission(3, 2, 10);
        let first = outcome(start(&admission, client(1)).await).await.unwrap();
        let _second = outcome(start(&admission, client(1)).await).await.unwrap();
        let third = start(&admission, client(1)).await;
        assert!(!third.is_finished());
        let _other = outcome(start(&admission, client(2)).await).await.unwrap();
        assert_eq!(admission.counts(), (3, 1));
        drop(first);
        settle().await;
        let _third = outcome(third).await.unwrap();
        assert_eq!(admission.counts(), (3, 0));
    }

    #[tokio::test]
    async fn the_host_itself_has_no_share() {
        let admission = admission(3, 1, 10);
        for _ in 0..3 {
            std::mem::forget(
                outcome(start(&admission, Caller::Host).await)
                    .await
                    .unwrap(),
            );
        }
        assert_eq!(admission.counts(), (3, 0));
    }

    #[tokio::test]
    async fn the_client_with_the_fewest_running_is_next_then_the_longest_wait() {
        let admission = admission(2, 2, 10);
        let first = outcome(start(&admission, client(1)).await).await.unwrap();
        let second = outcome(start(&admission, client(1)).await).await.unwrap();
        let third = start(&admission, client(1)).await;
        let fourth = start(&admission, client(2)).await;
        let fifth = start(&admission, client(3)).await;
        drop(first);
        settle().await;
        let fourth = outcome(fourth).await.unwrap();
        assert!(!third.is_finished() && !fifth.is_finished());
        drop(second);
        settle().await;
        // Neither has a running request by now.
        let _third = outcome(third).await.unwrap();
        drop(fourth);
        settle().await;
        let _fifth = outcome(fifth).await.unwrap();
    }

    #[tokio::test]
    async fn in_a_full_queue_the_client_with_the_most_is_displaced() {
        let admission = admission(1, 1, 3);
        let _running = outcome(start(&admission, client(1)).await).await.unwrap();
        let first = start(&admission, client(1)).await;
        let second = start(&admission, client(1)).await;
        let last = start(&admission, client(1)).await;
        assert_eq!(
            outcome(start(&admission, client(1)).await).await.err(),
            Some(Refused::Full)
        );
        let other = start(&admission, client(2)).await;
        assert_eq!(outcome(last).await.err(), Some(Refused::Displaced));
        assert!(!first.is_finished() && !second.is_finished() && !other.is_finished());
        // Two and one: another one would only reverse that.
        assert_eq!(
            outcome(start(&admission, client(2)).await).await.err(),
            Some(Refused::Full)
        );
        assert_eq!(admission.counts(), (1, 3));
    }

    #[tokio::test]
    async fn a_cancelled_request_leaves_the_queue() {
        let admission = admission(1, 1, 2);
        let running = outcome(start(&admission, client(1)).await).await.unwrap();
        let cancelled = start(&admission, client(1)).await;
        let waiting = start(&admission, client(1)).await;
        cancelled.abort();
        settle().await;
        assert_eq!(admission.counts(), (1, 1));
        drop(running);
        settle().await;
        drop(outcome(waiting).await.unwrap());
        assert_eq!(admission.counts(), (0, 0));
        assert!(admission.requests().clients.is_empty());
    }

    #[tokio::test]
    async fn a_permit_of_a_cancelled_request_is_passed_on() {
        let admission = admission(1, 1, 2);
        let running = outcome(start(&admission, client(1)).await).await.unwrap();
        let cancelled = start(&admission, client(1)).await;
        let waiting = start(&admission, client(2)).await;
        // The permit has been sent when the request is cancelled.
        drop(running);
        cancelled.abort();
        settle().await;
        drop(outcome(waiting).await.unwrap());
        assert_eq!(admission.counts(), (0, 0));
    }

    #[tokio::test]
    async fn waiting_times_out() {
        let admission = admission(1, 1, 1);
        let _running = outcome(start(&admission, client(1)).await).await.unwrap();
        let timeout = Duration::from_millis(10);
        let waits = admission.acquire(client(1), timeout).await;
        assert_eq!(waits.err(), Some(Refused::TimedOut));
        assert_eq!(admission.counts(), (1, 0));
    }

    #[tokio::test]
    async fn each_client_leaves_as_many_permits_as_it_has() {
        let admission = Arc::new(Admission::new(16, None, 1000, Gauges::default()));
        let mut running = Vec::new();
        for (id, expected) in [(1, 8), (2, 4), (3, 2), (4, 1), (5, 1), (6, 0)] {
            for _ in 0..20 {
                running.push(start(&admission, client(id)).await);
            }
            let state = &admission.requests().clients[&client(id)];
            assert_eq!(state.running, expected, "client {id}");
        }
        // A permit that one client frees goes to the one that has none.
        running.remove(0).await.unwrap().map(drop).unwrap();
        settle().await;
        let requests = admission.requests();
        assert_eq!(requests.clients[&client(1)].running, 7);
        assert_eq!(requests.clients[&client(6)].running, 1);
    }
}
