//! The requests of each client that run in one component: no more than its share, so that one client cannot take all places.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Clients that are kept, at least, before those without requests are left out.
const FEW: usize = 64;

pub(super) struct Shares {
    share: usize,
    clients: Mutex<Clients>,
}

struct Clients {
    /// Gone where a client has no request that runs or waits.
    places: HashMap<IpAddr, Weak<Semaphore>>,
    /// How many clients there may be until those that are gone are left out.
    sweep_at: usize,
}

impl Shares {
    pub(super) fn new(share: usize) -> Self {
        Self {
            share,
            clients: Mutex::new(Clients {
                places: HashMap::new(),
                sweep_at: FEW,
            }),
        }
    }

    /// The places of the requests of one client.
    pub(super) fn of(&self, client: IpAddr) -> Arc<Semaphore> {
        // Nothing panics while the lock is held, so a poisoned map is still whole.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = clients.places.get(&client).and_then(Weak::upgrade) {
            return places;
        }
        if clients.places.len() >= clients.sweep_at {
            clients.places.retain(|_, places| places.strong_count() > 0);
            clients.sweep_at = FEW.max(2 * clients.places.len());
        }
        let places = Arc::new(Semaphore::new(self.share));
        clients.places.insert(client, Arc::downgrade(&places));
        places
    }
}

/// What a request holds while it runs; the first two also while it waits.
pub(crate) struct Places {
    pub(super) _admitted: OwnedSemaphorePermit,
    /// None for requests of the host itself.
    pub(super) _of_client: Option<OwnedSemaphorePermit>,
    pub(super) _running: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_share_for_as_long_as_it_has_requests() {
        let shares = Shares::new(2);
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let first = shares.of(address(1)).try_acquire_owned().unwrap();
        let second = shares.of(address(1)).try_acquire_owned().unwrap();
        assert!(shares.of(address(1)).try_acquire_owned().is_err());
        assert!(shares.of(address(2)).try_acquire_owned().is_ok());
        drop(second);
        assert!(shares.of(address(1)).try_acquire_owned().is_ok());
        for last in 0..=255 {
            drop(shares.of(address(last)));
        }
        assert!(shares.clients.lock().unwrap().places.len() <= FEW);
        let _second = shares.of(address(1)).try_acquire_owned().unwrap();
        assert!(shares.of(address(1)).try_acquire_owned().is_err());
        drop(first);
    }
}
