//! Addresses that a component may connect to: public ones, and private networks that it is granted by address.
//!
//! The owner of a name can change its addresses at any time. So a grant by name covers public addresses only, and each address is
//! checked here, between the DNS lookup and the connection.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use ipnet::{IpNet, Ipv6Net};
use tokio::sync::Semaphore;

/// Networks that are not part of the public Internet: the IANA special-purpose address registries (RFC 6890), multicast, and two
/// deprecated ones: IPv4-compatible IPv6 addresses (RFC 4291, 2.5.5.1) and site-local addresses (RFC 3879).
const NOT_PUBLIC: [&str; 26] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

static NETWORKS: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    // The constants are well-formed: a test parses each.
    NOT_PUBLIC.iter().filter_map(|n| n.parse().ok()).collect()
});

/// Returns whether an address is on the public Internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    let address = embedded_ipv4(address);
    !NETWORKS.iter().any(|network| network.contains(&address))
}

/// Parses a URL's host as an address; `None` for a name.
pub(super) fn parse_address(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

/// Returns the IPv4 address that an IPv6 address embeds, if any: mapped (RFC 4291), NAT64 (RFC 6052) or 6to4 (RFC 3056).
/// Otherwise returns the address itself.
fn embedded_ipv4(address: IpAddr) -> IpAddr {
    const NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
    const SIX_TO_FOUR: Ipv6Net =
        Ipv6Net::new_assert(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);
    let IpAddr::V6(v6) = address.to_canonical() else {
        return address.to_canonical();
    };
    let bytes = v6.octets();
    let v4 = |at: usize| IpAddr::from([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if NAT64.contains(&v6) {
        v4(12)
    } else if SIX_TO_FOUR.contains(&v6) {
        v4(2)
    } else {
        address
    }
}

/// Returns whether a name is reserved for loopback (RFC 6761, section 6.3).
pub(super) fn is_loopback_name(name: &str) -> bool {
    let last = name.trim_end_matches('.').rsplit('.').next();
    last.is_some_and(|label| label.eq_ignore_ascii_case("localhost"))
}

/// Resolves names, and filters out addresses that the component may not connect to.
#[derive(Clone)]
pub(super) struct Resolver {
    /// One permit for each look-up.
    pub(super) lookups: Arc<Semaphore>,
    /// Networks that the component is granted by address.
    pub(super) granted: Arc<[IpNet]>,
}

/// All addresses of a name are private and not granted to the component.
#[derive(Debug, thiserror::Error)]
#[error(
    "{name} resolves to {address}, which is not a public address: name it, or its network, in `allowed_outbound_hosts` too"
)]
pub(super) struct NotPublic {
    name: String,
    address: IpAddr,
}

/// A name cannot be resolved.
#[derive(Debug, thiserror::Error)]
#[error("{name} cannot be resolved: {cause}")]
pub(super) struct NoAddress {
    name: String,
    cause: std::io::Error,
}

impl Resolver {
    fn allows(&self, name: &str, address: IpAddr) -> bool {
        // A grant of a loopback name is a grant of loopback.
        is_public(address)
            || is_loopback_name(name) && address.to_canonical().is_loopback()
            || self
                .granted
                .iter()
                .any(|network| network.contains(&address.to_canonical()))
    }

    fn filter(
        &self,
        name: &str,
        found: impl Iterator<Item = SocketAddr>,
    ) -> std::io::Result<Vec<SocketAddr>> {
        let (allowed, denied): (Vec<_>, Vec<_>) = found.partition(|a| self.allows(name, a.ip()));
        match (allowed.is_empty(), denied.first()) {
            (true, Some(denied)) => Err(std::io::Error::other(NotPublic {
                name: name.to_owned(),
                address: denied.ip(),
            })),
            _ => Ok(allowed),
        }
    }
}

/// Runs a look-up with a permit. A look-up occupies a thread until its end, even if nobody waits for it any more: it keeps the permit
/// until then.
async fn to_its_end<T: Send + 'static>(
    lookups: &Arc<Semaphore>,
    lookup: impl Future<Output = std::io::Result<T>> + Send + 'static,
) -> std::io::Result<T> {
    let permit = Arc::clone(lookups).acquire_owned().await;
    let permit = permit.map_err(std::io::Error::other)?;
    let lookup = tokio::spawn(async move {
        let found = lookup.await;
        drop(permit);
        found
    });
    lookup.await.map_err(std::io::Error::other)?
}

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move {
            let name = name.as_str();
            let failed = |cause| {
                let name = name.to_owned();
                std::io::Error::other(NoAddress { name, cause })
            };
            // The connector sets the port.
            let target = (name.to_owned(), 0);
            let lookup = async {
                let found = tokio::net::lookup_host(target).await;
                found.map(Iterator::collect::<Vec<_>>)
            };
            let found = to_its_end(&resolver.lookups, lookup).await;
            let found = found.map_err(failed)?.into_iter();
            Ok(resolver.filter(name, found)?.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::sync::Arc;
    use std::task::Context;

    use tokio::sync::Semaphore;

    use super::{NETWORKS, NOT_PUBLIC, Resolver, is_public, to_its_end};

    #[tokio::test]
    async fn a_lookup_keeps_its_permit_when_nobody_waits_for_it() {
        let lookups = Arc::new(Semaphore::new(1));
        let (end, ended) = tokio::sync::oneshot::channel();
        let slow = async { ended.await.map_err(std::io::Error::other) };
        let mut asking = Box::pin(to_its_end(&lookups, slow));
        let waker = std::task::Waker::noop();
        let started = asking.as_mut().poll(&mut Context::from_waker(waker));
        assert!(started.is_pending());
        drop(asking);
        assert_eq!(lookups.available_permits(), 0);
        end.send(()).unwrap();
        let next = to_its_end(&lookups, async { Ok(7) }).await;
        assert_eq!(next.unwrap(), 7);
    }

    #[test]
    fn the_constants_parse() {
        assert_eq!(NETWORKS.len(), NOT_PUBLIC.len());
    }

    #[test]
    fn private_addresses_are_recognised_in_every_notation() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::7f00:1",
            "::a00:1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:a00:1::",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "172.32.0.1",
            "2606:4700::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    fn filter(granted: &[&str], name: &str, found: &[&str]) -> Result<Vec<String>, String> {
        let granted: Arc<[_]> = granted.iter().map(|n| n.parse().unwrap()).collect();
        let found = found
            .iter()
            .map(|a| SocketAddr::new(a.parse::<IpAddr>().unwrap(), 0));
        let lookups = Arc::new(Semaphore::new(1));
        Resolver { lookups, granted }
            .filter(name, found)
            .map(|chosen| chosen.iter().map(|a| a.ip().to_string()).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_resolves_only_to_public_addresses_and_granted_networks() {
        assert_eq!(
            filter(&[], "example.com", &["1.1.1.1", "10.0.0.1"]).unwrap(),
            ["1.1.1.1"]
        );
        let error = filter(&[], "example.com", &["10.0.0.1"]).unwrap_err();
        assert!(
            error.contains("example.com resolves to 10.0.0.1"),
            "{error}"
        );
        assert_eq!(
            filter(&["10.0.0.0/8"], "example.com", &["10.0.0.1", "::1"]).unwrap(),
            ["10.0.0.1"]
        );
    }

    #[test]
    fn localhost_is_loopback_and_nothing_else() {
        assert_eq!(
            filter(&[], "localhost", &["127.0.0.1", "::1"]).unwrap(),
            ["127.0.0.1", "::1"]
        );
        assert!(filter(&[], "localhost", &["10.0.0.1"]).is_err());
        assert!(filter(&[], "notlocalhost", &["127.0.0.1"]).is_err());
    }
}
