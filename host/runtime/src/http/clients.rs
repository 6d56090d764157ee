//! How many requests each client has under way: no more than its share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts by address.
pub(super) struct Clients {
    share: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// One request of a client; dropping it makes room for another.
pub(super) struct Place {
    clients: Arc<Clients>,
    address: IpAddr,
}

impl Clients {
    /// `share`: how many requests one address may have under way.
    pub(super) fn new(share: usize) -> Arc<Self> {
        Arc::new(Self {
            share,
            counts: Mutex::new(HashMap::new()),
        })
    }

    /// Takes a place, if the client has one left.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut counts = self.counts();
        let count = counts.entry(address).or_insert(0);
        if *count >= self.share {
            return None;
        }
        *count += 1;
        Some(Place {
            clients: Arc::clone(self),
            address,
        })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing panics while the lock is held, so a poisoned map is still whole.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.clients.counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Clients;

    #[test]
    fn a_client_gets_its_share_and_no_more_and_does_not_use_up_that_of_others() {
        let clients = Clients::new(2);
        let one = "192.0.2.1".parse().unwrap();
        let first = clients.admit(one).unwrap();
        let _second = clients.admit(one).unwrap();
        assert!(clients.admit(one).is_none());
        assert!(clients.admit("192.0.2.2".parse().unwrap()).is_some());
        drop(first);
        assert!(clients.admit(one).is_some());
    }
}
