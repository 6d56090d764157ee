//! Limit on the requests of each client.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::Ipv6Net;

/// Requests in flight by network; see [`network`].
pub(crate) struct Clients {
    limit: usize,
    counts: Mutex<BTreeMap<IpAddr, usize>>,
}

/// Permit for one request of a client, released on drop.
pub(crate) struct Permit {
    clients: Arc<Clients>,
    network: IpAddr,
}

/// Returns what identifies a client: an IPv4 address, or the first 64 bits of an IPv6 address. The rest is up to the owner of
/// the subnet (RFC 4291, 2.5.1), so one machine can call from as many addresses as it likes.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Net::new_assert(v6, 64).network().into(),
    }
}

impl Clients {
    /// Allows each client `limit` requests in flight.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            counts: Mutex::new(BTreeMap::new()),
        })
    }

    /// Returns a permit, or `None` if the client of this network is at the limit.
    pub(crate) fn admit(self: &Arc<Self>, network: IpAddr) -> Option<Permit> {
        let mut counts = self.counts();
        let count = counts.entry(network).or_insert(0);
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Permit {
            clients: Arc::clone(self),
            network,
        })
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        // Nothing panics while the lock is held, so a poisoned map is still consistent.
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
    fn each_client_has_its_own_limit() {
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
    fn addresses_of_an_ipv6_subnet_are_one_client() {
        let clients = Clients::new(1);
        let of = |address: &str| network(address.parse().unwrap());
        let _permit = clients.admit(of("2001:db8:0:1::1")).unwrap();
        let same = of("2001:db8:0:1:ffff:ffff:ffff:ffff");
        assert!(clients.admit(same).is_none());
        assert!(clients.admit(of("2001:db8:0:2::1")).is_some());

        let _mapped = clients.admit(of("::ffff:192.0.2.1")).unwrap();
        assert!(clients.admit(of("192.0.2.1")).is_none());
        assert!(clients.admit(of("::ffff:192.0.2.2")).is_some());
    }
}
