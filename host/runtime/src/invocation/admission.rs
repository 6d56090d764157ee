//! Which of a component's requests run, and whose turn is next: clients share the places fairly.
//!
//! A client has no more of the running requests than it leaves free for others (the dynamic thresholds of Choudhury and Hahne, 1998,
//! for buffers that queues share), or a number that was set. A place that becomes free goes to the client that has the fewest, and
//! among equals to the longest wait. In a full queue, a request takes the place of the last one of the client that has the most.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::Gauge;
use tokio::sync::oneshot;

/// The requests of one component, or those of all.
pub(crate) struct Admission {
    /// How many may run at the same time.
    concurrency: usize,
    /// Of those, how many of one client. None: as many as it leaves free.
    share: Option<usize>,
    /// How many may wait.
    queue: usize,
    requests: Mutex<Requests>,
    gauges: Gauges,
}

/// Gauges of how many requests run, and how many wait.
pub(super) struct Gauges {
    pub(super) running: Gauge,
    pub(super) waiting: Gauge,
}

impl Default for Gauges {
    /// Gauges that nobody reads.
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
    /// Those that have requests; none for the host itself, which has no share.
    clients: BTreeMap<Option<IpAddr>, OfClient>,
}

#[derive(Default)]
struct OfClient {
    running: usize,
    /// In the order of their tickets.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    ticket: u64,
    turn: oneshot::Sender<Permit>,
}

/// Lets one request run. Dropping it makes room for another.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    client: Option<IpAddr>,
}

/// Why a request may not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The queue is full.
    Full,
    /// The queue was full, and a request of another client took its place.
    Displaced,
    /// It waited for too long.
    TimedOut,
}

/// A request's place in the queue, left when it is dropped.
struct Place<'a> {
    admission: &'a Admission,
    client: Option<IpAddr>,
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

    /// Waits for the turn of a request of this client, or of the host itself, for so long. Gives how long it was, too.
    ///
    /// # Errors
    /// When the queue is full, when the wait is too long, or when another client's request displaces it.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        client: Option<IpAddr>,
        timeout: Duration,
    ) -> Result<(Permit, Duration), Refused> {
        let (place, turn) = {
            let mut requests = self.requests();
            if requests.running < self.concurrency {
                let share = self.share_of(client, requests.running);
                let of = requests.clients.entry(client).or_default();
                if of.running < share {
                    of.running += 1;
                    requests.running += 1;
                    self.gauges.set(&requests);
                    return Ok((self.permit(client), Duration::ZERO));
                }
            }
            requests.make_room(self.queue, client)?;
            let (ticket, turn) = requests.wait(client);
            self.gauges.set(&requests);
            let place = Place {
                admission: self,
                client,
                ticket,
            };
            (place, turn)
        };
        let arrived = Instant::now();
        let permit = tokio::time::timeout(timeout, turn).await;
        drop(place);
        match permit {
            Ok(Ok(permit)) => Ok((permit, arrived.elapsed())),
            Ok(Err(_)) => Err(Refused::Displaced),
            Err(_) => Err(Refused::TimedOut),
        }
    }

    /// How many requests run, and how many wait.
    #[cfg(test)]
    fn counts(&self) -> (usize, usize) {
        let requests = self.requests();
        (requests.running, requests.waiting)
    }

    /// How many of its requests may run, if so many run in all; the host itself has no share.
    fn share_of(&self, client: Option<IpAddr>, running: usize) -> usize {
        match client {
            Some(_) => self
                .share
                .unwrap_or_else(|| self.concurrency.saturating_sub(running)),
            None => usize::MAX,
        }
    }

    fn permit(self: &Arc<Self>, client: Option<IpAddr>) -> Permit {
        Permit {
            admission: Arc::clone(self),
            client,
        }
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        // Nothing panics while the lock is held, so the counts of a poisoned lock are still right.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests {
    fn waiting_of(&self, client: Option<IpAddr>) -> usize {
        self.clients.get(&client).map_or(0, |of| of.waiting.len())
    }

    /// Leaves a place in the queue for a request of this client, at the cost of the client with the most, if that has more.
    fn make_room(&mut self, queue: usize, client: Option<IpAddr>) -> Result<(), Refused> {
        if self.waiting < queue {
            return Ok(());
        }
        let own = self.waiting_of(client) + 1;
        let most = self.clients.values_mut().max_by_key(|of| of.waiting.len());
        let most = most.filter(|of| of.waiting.len() > own);
        // Its sender goes, which is how it is told.
        most.and_then(|of| of.waiting.pop_back())
            .ok_or(Refused::Full)?;
        self.waiting -= 1;
        Ok(())
    }

    fn wait(&mut self, client: Option<IpAddr>) -> (u64, oneshot::Receiver<Permit>) {
        let (turn, wait) = oneshot::channel();
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting += 1;
        let of = self.clients.entry(client).or_default();
        of.waiting.push_back(Waiting { ticket, turn });
        (ticket, wait)
    }

    /// A request of the client is over, or no longer waits. Clients without requests are forgotten.
    fn leave(&mut self, client: Option<IpAddr>, leave: impl FnOnce(&mut OfClient)) {
        if let Entry::Occupied(mut of) = self.clients.entry(client) {
            leave(of.get_mut());
            if of.get().running == 0 && of.get().waiting.is_empty() {
                of.remove();
            }
        }
    }

    /// The request whose turn it is, which runs from now on.
    fn next(
        &mut self,
        share_of: impl Fn(Option<IpAddr>, usize) -> usize,
    ) -> Option<(Option<IpAddr>, oneshot::Sender<Permit>)> {
        let running = self.running;
        let eligible = self.clients.iter_mut().filter_map(|(&client, of)| {
            let first = of.waiting.front()?.ticket;
            (of.running < share_of(client, running)).then_some((of.running, first, client, of))
        });
        let (_, _, client, of) = eligible.min_by_key(|&(running, first, ..)| (running, first))?;
        let waiting = of.waiting.pop_front()?;
        of.running += 1;
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
            requests.leave(self.client, |of| of.running -= 1);
            let next = match requests.waiting {
                0 => None,
                _ => requests.next(|client, running| admission.share_of(client, running)),
            };
            admission.gauges.set(&requests);
            next
        };
        // Not under the lock: a permit that nobody takes any more is dropped, and passed on to the next.
        if let Some((client, turn)) = next {
            let _ = turn.send(admission.permit(client));
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut requests = self.admission.requests();
        let mut left = 0;
        requests.leave(self.client, |of| {
            let at = of.waiting.binary_search_by_key(&self.ticket, |w| w.ticket);
            if let Ok(at) = at {
                of.waiting.remove(at);
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

    type Arrived = JoinHandle<Result<Permit, Refused>>;

    fn admission(concurrency: usize, share: usize, queue: usize) -> Arc<Admission> {
        Arc::new(Admission::new(
            concurrency,
            Some(share),
            queue,
            Gauges::default(),
        ))
    }

    fn client(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    /// A request that runs, waits or has been refused by now.
    async fn arrive(admission: &Arc<Admission>, client: Option<IpAddr>) -> Arrived {
        let admission = Arc::clone(admission);
        let acquire = async move {
            let admitted = admission.acquire(client, Duration::from_secs(60)).await;
            admitted.map(|(permit, _)| permit)
        };
        let arrived = tokio::spawn(acquire);
        settle().await;
        arrived
    }

    async fn settle() {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    async fn outcome(arrived: Arrived) -> Result<Permit, Refused> {
        assert!(arrived.is_finished(), "it waits");
        arrived.await.unwrap()
    }

    #[tokio::test]
    async fn a_client_has_its_share_and_leaves_the_rest_to_others() {
        let admission = admission(3, 2, 10);
        let first = outcome(arrive(&admission, client(1)).await).await.unwrap();
        let _second = outcome(arrive(&admission, client(1)).await).await.unwrap();
        let third = arrive(&admission, client(1)).await;
        assert!(!third.is_finished());
        let _other = outcome(arrive(&admission, client(2)).await).await.unwrap();
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
            std::mem::forget(outcome(arrive(&admission, None).await).await.unwrap());
        }
        assert_eq!(admission.counts(), (3, 0));
    }

    #[tokio::test]
    async fn the_client_with_the_fewest_that_run_is_next_and_among_equals_the_longest_wait() {
        let admission = admission(2, 2, 10);
        let first = outcome(arrive(&admission, client(1)).await).await.unwrap();
        let second = outcome(arrive(&admission, client(1)).await).await.unwrap();
        let third = arrive(&admission, client(1)).await;
        let fourth = arrive(&admission, client(2)).await;
        let fifth = arrive(&admission, client(3)).await;
        drop(first);
        settle().await;
        let fourth = outcome(fourth).await.unwrap();
        assert!(!third.is_finished() && !fifth.is_finished());
        drop(second);
        settle().await;
        // Neither has one that runs by now.
        let _third = outcome(third).await.unwrap();
        drop(fourth);
        settle().await;
        let _fifth = outcome(fifth).await.unwrap();
    }

    #[tokio::test]
    async fn in_a_full_queue_the_client_with_the_most_makes_room() {
        let admission = admission(1, 1, 3);
        let _running = outcome(arrive(&admission, client(1)).await).await.unwrap();
        let first = arrive(&admission, client(1)).await;
        let second = arrive(&admission, client(1)).await;
        let last = arrive(&admission, client(1)).await;
        assert_eq!(
            outcome(arrive(&admission, client(1)).await).await.err(),
            Some(Refused::Full)
        );
        let other = arrive(&admission, client(2)).await;
        assert_eq!(outcome(last).await.err(), Some(Refused::Displaced));
        assert!(!first.is_finished() && !second.is_finished() && !other.is_finished());
        // Two and one: another one would only turn that round.
        assert_eq!(
            outcome(arrive(&admission, client(2)).await).await.err(),
            Some(Refused::Full)
        );
        assert_eq!(admission.counts(), (1, 3));
    }

    #[tokio::test]
    async fn who_leaves_the_queue_keeps_no_place_in_it() {
        let admission = admission(1, 1, 2);
        let running = outcome(arrive(&admission, client(1)).await).await.unwrap();
        let leaves = arrive(&admission, client(1)).await;
        let stays = arrive(&admission, client(1)).await;
        leaves.abort();
        settle().await;
        assert_eq!(admission.counts(), (1, 1));
        drop(running);
        settle().await;
        drop(outcome(stays).await.unwrap());
        assert_eq!(admission.counts(), (0, 0));
        assert!(admission.requests().clients.is_empty());
    }

    #[tokio::test]
    async fn a_permit_that_nobody_takes_any_more_is_passed_on() {
        let admission = admission(1, 1, 2);
        let running = outcome(arrive(&admission, client(1)).await).await.unwrap();
        let leaves = arrive(&admission, client(1)).await;
        let stays = arrive(&admission, client(2)).await;
        // The permit is on its way when the request is given up.
        drop(running);
        leaves.abort();
        settle().await;
        drop(outcome(stays).await.unwrap());
        assert_eq!(admission.counts(), (0, 0));
    }

    #[tokio::test]
    async fn a_wait_has_an_end() {
        let admission = admission(1, 1, 1);
        let _running = outcome(arrive(&admission, client(1)).await).await.unwrap();
        let timeout = Duration::from_millis(10);
        let waits = admission.acquire(client(1), timeout).await;
        assert_eq!(waits.err(), Some(Refused::TimedOut));
        assert_eq!(admission.counts(), (1, 0));
    }

    #[tokio::test]
    async fn each_client_leaves_as_much_as_it_has() {
        let admission = Arc::new(Admission::new(16, None, 1000, Gauges::default()));
        let mut running = Vec::new();
        for (of, has) in [(1, 8), (2, 4), (3, 2), (4, 1), (5, 1), (6, 0)] {
            for _ in 0..20 {
                running.push(arrive(&admission, client(of)).await);
            }
            let all = &admission.requests().clients[&client(of)];
            assert_eq!(all.running, has, "client {of}");
        }
        // What one client frees goes to the one that has none.
        running.remove(0).await.unwrap().map(drop).unwrap();
        settle().await;
        let requests = admission.requests();
        assert_eq!(requests.clients[&client(1)].running, 7);
        assert_eq!(requests.clients[&client(6)].running, 1);
    }
}
