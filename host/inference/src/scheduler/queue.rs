//! The queue of windows: first come, first served, in batches of compatible windows.
//!
//! Its length is bounded by the number of transcriptions in progress, each of which has at most one window in it.

use std::collections::VecDeque;

use metrics::Gauge;
use parking_lot::{Condvar, Mutex};

/// An entry of the queue.
pub(crate) trait Entry {
    /// Returns whether its result is still wanted.
    fn is_wanted(&self) -> bool;

    /// Returns whether both can be in one batch.
    fn fits_with(&self, other: &Self) -> bool;

    /// Returns the maximum number of rows it takes in a batch.
    fn rows(&self) -> usize;
}

pub(crate) struct Queue<E> {
    state: Mutex<State<E>>,
    changed: Condvar,
    waiting: Gauge,
}

struct State<E> {
    waiting: VecDeque<E>,
    closed: bool,
}

impl<E: Entry> Queue<E> {
    /// `waiting` is the gauge of queued entries.
    pub fn new(waiting: Gauge) -> Self {
        Self {
            waiting,
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Appends an entry, or returns it if the queue is closed.
    pub fn push(&self, entry: E) -> Result<(), E> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(entry);
        }
        state.waiting.push_back(entry);
        self.waiting.set(state.waiting.len() as f64);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for the first wanted entry, and takes it with later ones that can be in its batch, up to `limit` rows in total.
    /// Returns `None` once the queue is closed.
    pub fn take(&self, limit: usize) -> Option<Vec<E>> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            state.waiting.retain(E::is_wanted);
            if let Some(first) = state.waiting.pop_front() {
                let (mut rows, mut batch) = (first.rows(), vec![first]);
                let mut rest = VecDeque::with_capacity(state.waiting.len());
                for entry in state.waiting.drain(..) {
                    if rows + entry.rows() <= limit && entry.fits_with(&batch[0]) {
                        rows += entry.rows();
                        batch.push(entry);
                    } else {
                        rest.push_back(entry);
                    }
                }
                state.waiting = rest;
                self.waiting.set(state.waiting.len() as f64);
                return Some(batch);
            }
            self.waiting.set(0.0);
            self.changed.wait(&mut state);
        }
    }

    /// Returns the number of entries that are waiting and wanted.
    pub fn len(&self) -> usize {
        let state = self.state.lock();
        state
            .waiting
            .iter()
            .filter(|entry| entry.is_wanted())
            .count()
    }

    /// Closes the queue, and returns the waiting entries.
    pub fn close(&self) -> Vec<E> {
        let mut state = self.state.lock();
        state.closed = true;
        self.changed.notify_all();
        self.waiting.set(0.0);
        state.waiting.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Item {
        id: u32,
        length: usize,
        wanted: bool,
        rows: usize,
    }

    impl Entry for Item {
        fn is_wanted(&self) -> bool {
            self.wanted
        }

        fn fits_with(&self, other: &Self) -> bool {
            self.length == other.length
        }

        fn rows(&self) -> usize {
            self.rows
        }
    }

    fn item(id: u32, length: usize, wanted: bool, rows: usize) -> Item {
        Item {
            id,
            length,
            wanted,
            rows,
        }
    }

    fn queue(items: &[(u32, usize, bool)]) -> Queue<Item> {
        let queue = Queue::new(Gauge::noop());
        for &(id, length, wanted) in items {
            queue.push(item(id, length, wanted, 1)).unwrap();
        }
        queue
    }

    fn ids(batch: Option<Vec<Item>>) -> Vec<u32> {
        batch.unwrap().iter().map(|item| item.id).collect()
    }

    #[test]
    fn compatible_entries_are_batched_and_the_others_keep_their_order() {
        let queue = queue(&[
            (1, 4, true),
            (2, 9, true),
            (3, 4, true),
            (4, 9, true),
            (5, 4, true),
        ]);
        assert_eq!(ids(queue.take(2)), [1, 3]);
        assert_eq!(ids(queue.take(2)), [2, 4]);
        assert_eq!(ids(queue.take(2)), [5]);
    }

    #[test]
    fn a_batch_has_at_most_the_limit_of_rows_unless_one_entry_has_more() {
        let queue = Queue::new(Gauge::noop());
        for (id, rows) in [(1, 5), (2, 5), (3, 3), (4, 9), (5, 1)] {
            queue.push(item(id, 4, true, rows)).unwrap();
        }
        assert_eq!(ids(queue.take(8)), [1, 3]);
        assert_eq!(ids(queue.take(8)), [2, 5]);
        assert_eq!(ids(queue.take(8)), [4]);
    }

    #[test]
    fn unwanted_entries_are_dropped() {
        let queue = queue(&[(1, 4, false), (2, 4, true), (3, 4, false)]);
        assert_eq!(queue.len(), 1);
        assert_eq!(ids(queue.take(8)), [2]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_closed_queue_returns_its_entries_and_accepts_no_more() {
        let queue = queue(&[(1, 4, true)]);
        assert_eq!(queue.close().len(), 1);
        assert!(queue.take(8).is_none());
        assert!(queue.push(item(2, 4, true, 1)).is_err());
    }
}
