//! How many requests each client has under way: no more than its share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::Ipv6Net;

/// Counts by network, see [`network`].
pub(crate) struct Clients {
    share: usize,
    counts: Mutex<BTreeMap<IpAddr, usize>>,
}

/// One request of a client; dropping it makes room for another.
pub(crate) struct Permit {
    clients: Arc<Clients>,
    network: IpAddr,
}

/// What tells clients apart: an IPv4 address, and of an IPv6 address the first 64 bits. The rest is chosen by whoever has
/// the subnet (RFC 4291, 2.5.1): one machine can call from as many addresses as it likes.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(short) => short.into(),
        IpAddr::V6(long) => Ipv6Net::new_assert(long, 64).network().into(),
    }
}

impl Clients {
    /// `share`: how many requests one client may have under way.
    pub(crate) fn new(share: usize) -> Arc<Self> {
        Arc::new(Self {
            share,
            counts: Mutex::new(BTreeMap::new()),
        })
    }

    /// None where the client of this network has used up its share.
    pub(crate) fn admit(self: &Arc<Self>, network: IpAddr) -> Option<Permit> {
        let mut counts = self.counts();
        let count = counts.entry(network).or_insert(0);
        if *count >= self.share {
            return None;
        }
        *count += 1;
        Some(Permit {
            clients: Arc::clone(self),
            network,
        })
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        // Nothing panics while the lock is held, so a poisoned map is still whole.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.clients.counts();
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Clients, network};

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

    #[test]
    fn the_addresses_of_an_ipv6_subnet_are_one_client() {
        let clients = Clients::new(1);
        let of = |address: &str| network(address.parse().unwrap());
        let _place = clients.admit(of("2001:db8:0:1::1")).unwrap();
        let same = of("2001:db8:0:1:ffff:ffff:ffff:ffff");
        assert!(clients.admit(same).is_none());
        assert!(clients.admit(of("2001:db8:0:2::1")).is_some());

        let _mapped = clients.admit(of("::ffff:192.0.2.1")).unwrap();
        assert!(clients.admit(of("192.0.2.1")).is_none());
        assert!(clients.admit(of("::ffff:192.0.2.2")).is_some());
    }
}
