//! `allowed_outbound_hosts`: the servers that a component may send requests to.

use std::net::IpAddr;

use anyhow::Context as _;
use http::Uri;
use ipnet::IpNet;

use super::networks;

/// An entry of `allowed_outbound_hosts`: `scheme://host:port`, as in Spin. The scheme or the port may be `*`; the host may be `*`,
/// start with `*.`, or be a network (`10.0.0.0/8`). The default port is the scheme's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AllowedHost {
    /// The entry as in the manifest, without the values of variables, which must not be reported.
    entry: String,
    /// `http`, `https`, or `None` for any.
    scheme: Option<String>,
    host: HostPattern,
    /// `None`: any.
    ports: Option<Ports>,
}

/// A half-open range.
type Ports = std::ops::Range<u32>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    Any,
    /// Subdomains of this domain.
    Subdomain(String),
    Exact(String),
    /// An address or a network.
    Network(IpNet),
}

impl AllowedHost {
    /// Parses `text`, the manifest's `entry` with variables resolved.
    pub(super) fn parse(text: &str, entry: &str) -> anyhow::Result<Self> {
        let form = || {
            format!(
                "allowed_outbound_hosts: \"{entry}\" is not of the form scheme://host:port, e.g. \"https://example.com\""
            )
        };
        let (scheme, rest) = text.split_once("://").with_context(form)?;
        let scheme = match scheme {
            "*" => None,
            "http" | "https" => Some(scheme.to_owned()),
            _ => anyhow::bail!(
                "allowed_outbound_hosts: \"{entry}\": the scheme must be http, https or *"
            ),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['@', '?', '#']) || rest.is_empty() {
            anyhow::bail!("{}", form());
        }
        // The colons of an IPv6 address are in brackets.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let ports = match (port, scheme.as_deref()) {
            (Some("*"), _) => None,
            (Some(ports), _) => Some(parse_ports(ports).with_context(form)?),
            (None, Some("http")) => Some(80..81),
            (None, Some(_)) => Some(443..444),
            (None, None) => anyhow::bail!(
                "allowed_outbound_hosts: \"{entry}\": any scheme needs a port, or `:*`"
            ),
        };
        let host = HostPattern::parse(host, entry, form)?;
        Ok(Self {
            entry: entry.to_owned(),
            scheme,
            host,
            ports,
        })
    }

    pub(super) fn matches(&self, uri: &Uri) -> bool {
        let host = uri.host().map(str::to_ascii_lowercase);
        host.is_some_and(|host| self.matches_scheme_and_port(uri) && self.host.matches(&host))
    }

    /// Returns the network that the entry grants by address to requests of this scheme and port, if any.
    pub(super) fn network(&self, uri: &Uri) -> Option<IpNet> {
        match self.host {
            HostPattern::Network(network) if self.matches_scheme_and_port(uri) => Some(network),
            _ => None,
        }
    }

    fn matches_scheme_and_port(&self, uri: &Uri) -> bool {
        let scheme = uri.scheme_str().unwrap_or("https");
        let port = uri
            .port_u16()
            .unwrap_or(if scheme == "http" { 80 } else { 443 });
        self.scheme
            .as_deref()
            .is_none_or(|allowed| allowed == scheme)
            && self
                .ports
                .as_ref()
                .is_none_or(|allowed| allowed.contains(&u32::from(port)))
    }
}

/// Parses a port, or a range like `8000..8010`, which excludes the end, as in Spin.
fn parse_ports(text: &str) -> Option<Ports> {
    let (first, end) = match text.split_once("..") {
        Some((first, end)) => (first.parse::<u16>().ok()?, end.parse::<u16>().ok()?.into()),
        None => {
            let port = text.parse::<u16>().ok()?;
            (port, u32::from(port) + 1)
        }
    };
    let ports = u32::from(first)..end;
    (!ports.is_empty()).then_some(ports)
}

impl HostPattern {
    fn parse(host: &str, entry: &str, form: impl Fn() -> String) -> anyhow::Result<Self> {
        let bare = host
            .strip_prefix('[')
            .map_or(Some(host), |rest| rest.strip_suffix(']'))
            .with_context(&form)?;
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Network(IpNet::from(address.to_canonical())));
        }
        if let Ok(network) = bare.parse::<IpNet>() {
            return Ok(Self::Network(network.trunc()));
        }
        if host.contains(['/', ':', '[']) || host.is_empty() {
            anyhow::bail!("{}", form());
        }
        match host.split_once('.') {
            _ if host == "*" => Ok(Self::Any),
            Some(("*", domain)) if !domain.contains('*') => {
                match domain.ends_with("spin.internal") {
                    true => Err(service_chaining_error(entry)),
                    false => Ok(Self::Subdomain(domain.to_ascii_lowercase())),
                }
            }
            _ if host.contains('*') => anyhow::bail!(
                "allowed_outbound_hosts: \"{entry}\": `*` must be the whole host or its first label"
            ),
            _ if host == "self" || host.ends_with(".spin.internal") => {
                Err(service_chaining_error(entry))
            }
            _ => Ok(Self::Exact(host.to_ascii_lowercase())),
        }
    }

    fn matches(&self, host: &str) -> bool {
        let address = networks::parse_address(host);
        match (self, address) {
            // Private addresses are granted by address only, whether literal or resolved from a name.
            (Self::Any, Some(address)) => networks::is_public(address),
            // Loopback names are not granted by `*`, either.
            (Self::Any, None) => !networks::is_loopback_name(host),
            (Self::Subdomain(domain), None) => host
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.ends_with('.')),
            (Self::Exact(allowed), None) => allowed == host,
            (Self::Network(network), Some(address)) => network.contains(&address),
            _ => false,
        }
    }
}

/// Returns the error for Spin's requests from one component of an application to another.
fn service_chaining_error(entry: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "allowed_outbound_hosts: \"{entry}\": Spin's service chaining is not supported: let components call each other through `dependencies`, or name the address that this host listens on"
    )
}

impl std::fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.entry)
    }
}

#[cfg(test)]
mod tests {
    use super::AllowedHost;

    fn allows(entry: &str, uri: &str) -> bool {
        AllowedHost::parse(entry, entry)
            .unwrap()
            .matches(&uri.parse().unwrap())
    }

    #[test]
    fn an_entry_allows_only_its_scheme_host_and_port() {
        assert!(allows("https://example.com", "https://example.com/a?b=c"));
        assert!(allows("https://example.com", "https://EXAMPLE.com:443/"));
        assert!(!allows("https://example.com", "http://example.com/"));
        assert!(!allows("https://example.com", "https://example.com:8443/"));
        assert!(!allows("https://example.com", "https://sub.example.com/"));
        assert!(!allows(
            "https://example.com",
            "https://example.com.evil.test/"
        ));
        assert!(allows("http://127.0.0.1:9000", "http://127.0.0.1:9000/x"));
        assert!(allows("http://[::1]:9000", "http://[::1]:9000/x"));
    }

    #[test]
    fn a_range_of_ports_excludes_its_end() {
        let entry = "http://example.com:8000..8002";
        for (port, allowed) in [(7999, false), (8000, true), (8001, true), (8002, false)] {
            let uri = format!("http://example.com:{port}/");
            assert_eq!(allows(entry, &uri), allowed, "{port}");
        }
        for ports in ["8000..8000", "8001..8000", "8000..", "..8000", "1..70000"] {
            let entry = format!("http://example.com:{ports}");
            assert!(AllowedHost::parse(&entry, &entry).is_err(), "{entry}");
        }
    }

    #[test]
    fn wildcards_match_any_scheme_subdomain_or_port() {
        assert!(allows("https://*.example.com", "https://a.b.example.com/"));
        assert!(!allows("https://*.example.com", "https://example.com/"));
        assert!(!allows("https://*.example.com", "https://badexample.com/"));
        assert!(allows("*://example.com:*", "http://example.com:1234/"));
        assert!(allows("http://*:80", "http://anything.test/"));
    }

    #[test]
    fn addresses_are_granted_individually_or_by_network() {
        assert!(allows("http://10.0.0.0/8:*", "http://10.1.2.3:8086/"));
        assert!(!allows("http://10.0.0.0/8:*", "http://11.1.2.3:8086/"));
        assert!(!allows("http://10.0.0.0/8:*", "http://ten.test:8086/"));
        assert!(allows("http://[fd00::/8]:80", "http://[fd12::1]/"));
        assert!(allows("http://[::1]:80", "http://[0:0:0:0:0:0:0:1]/"));
        assert!(allows("http://127.0.0.1:80", "http://[::ffff:127.0.0.1]/"));
    }

    #[test]
    fn a_wildcard_does_not_grant_private_addresses() {
        assert!(allows("*://*:*", "http://1.1.1.1/"));
        for uri in [
            "http://127.0.0.1/",
            "http://169.254.169.254/latest",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://localhost:8001/",
            "http://any.LOCALHOST./",
        ] {
            assert!(!allows("*://*:*", uri), "{uri}");
        }
    }

    #[test]
    fn malformed_entries_are_refused() {
        for entry in [
            "example.com",
            "ftp://example.com",
            "https://",
            "https://a*b.com",
            "https://*.*.com",
            "*://example.com",
            "https://example.com/path",
            "https://me@example.com",
            "https://example.com:port",
            "https://10.0.0.0/33",
            "https://[::1",
            "http://self",
            "http://*.spin.internal",
            "http://other.spin.internal",
        ] {
            assert!(AllowedHost::parse(entry, entry).is_err(), "{entry}");
        }
    }

    #[test]
    fn values_of_variables_are_not_shown() {
        let entry = "https://{{ host }}";
        let error = AllowedHost::parse("https://hunter2*", entry).unwrap_err();
        assert!(!format!("{error:#}").contains("hunter2"));
        let allowed = AllowedHost::parse("https://hunter2", entry).unwrap();
        assert_eq!(allowed.to_string(), entry);
    }
}
