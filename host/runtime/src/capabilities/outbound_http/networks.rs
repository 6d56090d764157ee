//! Addresses that a component may connect to: public ones, and those of private networks that it was granted by address.
//!
//! A server's name says nothing about where it leads: whoever owns the name decides that anew with every answer. So a grant
//! by name reaches public addresses only, and each address is checked here, between the look-up and the connection.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use ipnet::{IpNet, Ipv6Net};

/// Networks that are not of the public Internet: the IANA special-purpose address registries (RFC 6890), multicast, and two that were
/// given up: IPv4 addresses in IPv6 (RFC 4291, 2.5.5.1) and site-local addresses (RFC 3879).
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

/// Whether an address is of the public Internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    let address = embedded(address);
    !NETWORKS.iter().any(|network| network.contains(&address))
}

/// The address that a URL's host is; none for a name.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

/// The IPv4 address that an IPv6 address stands for, if it does: mapped (RFC 4291), translated by NAT64 (RFC 6052), or
/// reached by 6to4 (RFC 3056).
fn embedded(address: IpAddr) -> IpAddr {
    const NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
    const SIX_TO_FOUR: Ipv6Net =
        Ipv6Net::new_assert(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);
    let IpAddr::V6(long) = address.to_canonical() else {
        return address.to_canonical();
    };
    let bytes = long.octets();
    let short = |at: usize| IpAddr::from([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if NAT64.contains(&long) {
        short(12)
    } else if SIX_TO_FOUR.contains(&long) {
        short(2)
    } else {
        address
    }
}

/// Whether a name is for loopback by definition (RFC 6761, section 6.3).
pub(super) fn is_loopback_name(name: &str) -> bool {
    let last = name.trim_end_matches('.').rsplit('.').next();
    last.is_some_and(|label| label.eq_ignore_ascii_case("localhost"))
}

/// Looks names up, and leaves out of the answer what the component may not connect to.
#[derive(Clone)]
pub(super) struct Resolver {
    /// Networks that the component was granted by address.
    pub(super) granted: Arc<[IpNet]>,
}

/// A name leads to addresses that the component was not granted.
#[derive(Debug, thiserror::Error)]
#[error(
    "{name} leads to {address}, which is not a public address: name it, or its network, in `allowed_outbound_hosts` too"
)]
pub(super) struct Private {
    name: String,
    address: IpAddr,
}

/// A name cannot be looked up.
#[derive(Debug, thiserror::Error)]
#[error("{name} cannot be looked up: {cause}")]
pub(super) struct NoAddress {
    name: String,
    cause: std::io::Error,
}

impl Resolver {
    fn allows(&self, name: &str, address: IpAddr) -> bool {
        // Whoever is granted such a name is granted loopback.
        is_public(address)
            || is_loopback_name(name) && address.to_canonical().is_loopback()
            || self
                .granted
                .iter()
                .any(|network| network.contains(&address.to_canonical()))
    }

    fn choose(
        &self,
        name: &str,
        found: impl Iterator<Item = SocketAddr>,
    ) -> std::io::Result<Vec<SocketAddr>> {
        let (allowed, denied): (Vec<_>, Vec<_>) = found.partition(|a| self.allows(name, a.ip()));
        match (allowed.is_empty(), denied.first()) {
            (true, Some(denied)) => Err(std::io::Error::other(Private {
                name: name.to_owned(),
                address: denied.ip(),
            })),
            _ => Ok(allowed),
        }
    }
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
            // The port is the connector's to set.
            let found = tokio::net::lookup_host((name, 0)).await.map_err(|cause| {
                let name = name.to_owned();
                std::io::Error::other(NoAddress { name, cause })
            })?;
            Ok(resolver.choose(name, found)?.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::sync::Arc;

    use super::{NETWORKS, NOT_PUBLIC, Resolver, is_public};

    #[test]
    fn the_constants_are_networks() {
        assert_eq!(NETWORKS.len(), NOT_PUBLIC.len());
    }

    #[test]
    fn private_addresses_are_known_in_every_notation() {
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

    fn choose(granted: &[&str], name: &str, found: &[&str]) -> Result<Vec<String>, String> {
        let granted: Arc<[_]> = granted.iter().map(|n| n.parse().unwrap()).collect();
        let found = found
            .iter()
            .map(|a| SocketAddr::new(a.parse::<IpAddr>().unwrap(), 0));
        Resolver { granted }
            .choose(name, found)
            .map(|chosen| chosen.iter().map(|a| a.ip().to_string()).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_leads_to_public_addresses_and_to_granted_networks_only() {
        assert_eq!(
            choose(&[], "example.com", &["1.1.1.1", "10.0.0.1"]).unwrap(),
            ["1.1.1.1"]
        );
        let error = choose(&[], "example.com", &["10.0.0.1"]).unwrap_err();
        assert!(error.contains("example.com leads to 10.0.0.1"), "{error}");
        assert_eq!(
            choose(&["10.0.0.0/8"], "example.com", &["10.0.0.1", "::1"]).unwrap(),
            ["10.0.0.1"]
        );
    }

    #[test]
    fn localhost_is_loopback_and_nothing_else() {
        assert_eq!(
            choose(&[], "localhost", &["127.0.0.1", "::1"]).unwrap(),
            ["127.0.0.1", "::1"]
        );
        assert!(choose(&[], "localhost", &["10.0.0.1"]).is_err());
        assert!(choose(&[], "notlocalhost", &["127.0.0.1"]).is_err());
    }
}
