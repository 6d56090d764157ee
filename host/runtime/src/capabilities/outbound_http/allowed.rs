//! `allowed_outbound_hosts`: which servers a component may send requests to.

use std::net::IpAddr;

use anyhow::Context as _;
use http::Uri;
use ipnet::IpNet;

use super::networks;

/// An entry of `allowed_outbound_hosts`: `scheme://host:port`, with Spin's meaning. The scheme or the port may be `*`, the
/// host may be `*`, begin with `*.`, or be a network (`10.0.0.0/8`); without a port the scheme's own is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AllowedHost {
    /// The entry as the manifest has it: without the values of variables, which are for no report.
    entry: String,
    /// `http`, `https`, or any.
    scheme: Option<String>,
    host: HostPattern,
    /// None: any.
    ports: Option<Ports>,
}

/// From the first, up to but without the last.
type Ports = std::ops::Range<u32>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    Any,
    /// Every host below this domain.
    Below(String),
    Exactly(String),
    /// An address, or those of a network.
    Network(IpNet),
}

impl AllowedHost {
    /// Parses `text`, which the manifest has as `entry`: the same, before variables were put in.
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
        // The colons of an IPv6 address stand in brackets.
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
        host.is_some_and(|host| self.has_port_of(uri) && self.host.matches(&host))
    }

    /// The network that the entry grants by address to requests of this scheme and port, if it does.
    pub(super) fn network(&self, uri: &Uri) -> Option<IpNet> {
        match self.host {
            HostPattern::Network(network) if self.has_port_of(uri) => Some(network),
            _ => None,
        }
    }

    fn has_port_of(&self, uri: &Uri) -> bool {
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

/// A port, or `8000..8010`: as in Spin, without the last one.
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
                    true => Err(chained(entry)),
                    false => Ok(Self::Below(domain.to_ascii_lowercase())),
                }
            }
            _ if host.contains('*') => anyhow::bail!(
                "allowed_outbound_hosts: \"{entry}\": `*` stands alone or begins the host"
            ),
            _ if host == "self" || host.ends_with(".spin.internal") => Err(chained(entry)),
            _ => Ok(Self::Exactly(host.to_ascii_lowercase())),
        }
    }

    fn matches(&self, host: &str) -> bool {
        let address = networks::literal(host);
        match (self, address) {
            // An address that is not public is granted by address only, like one that a name leads to.
            (Self::Any, Some(address)) => networks::is_public(address),
            // Nor is the host's own machine, by whatever name.
            (Self::Any, None) => !networks::is_loopback_name(host),
            (Self::Below(domain), None) => host
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.ends_with('.')),
            (Self::Exactly(allowed), None) => allowed == host,
            (Self::Network(network), Some(address)) => network.contains(&address),
            _ => false,
        }
    }
}

/// Spin's requests from one component of an application to another.
fn chained(entry: &str) -> anyhow::Error {
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
    fn an_entry_allows_its_scheme_host_and_port_only() {
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
    fn a_range_of_ports_is_without_its_last() {
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
    fn stars_stand_for_any_scheme_subdomain_or_port() {
        assert!(allows("https://*.example.com", "https://a.b.example.com/"));
        assert!(!allows("https://*.example.com", "https://example.com/"));
        assert!(!allows("https://*.example.com", "https://badexample.com/"));
        assert!(allows("*://example.com:*", "http://example.com:1234/"));
        assert!(allows("http://*:80", "http://anything.test/"));
    }

    #[test]
    fn addresses_are_granted_one_by_one_or_by_network() {
        assert!(allows("http://10.0.0.0/8:*", "http://10.1.2.3:8086/"));
        assert!(!allows("http://10.0.0.0/8:*", "http://11.1.2.3:8086/"));
        assert!(!allows("http://10.0.0.0/8:*", "http://ten.test:8086/"));
        assert!(allows("http://[fd00::/8]:80", "http://[fd12::1]/"));
        assert!(allows("http://[::1]:80", "http://[0:0:0:0:0:0:0:1]/"));
        assert!(allows("http://127.0.0.1:80", "http://[::ffff:127.0.0.1]/"));
    }

    #[test]
    fn a_star_does_not_grant_private_addresses() {
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
    fn entries_of_another_form_are_refused() {
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
    fn what_was_put_in_for_a_variable_is_in_no_message() {
        let entry = "https://{{ host }}";
        let error = AllowedHost::parse("https://hunter2*", entry).unwrap_err();
        assert!(!format!("{error:#}").contains("hunter2"));
        let allowed = AllowedHost::parse("https://hunter2", entry).unwrap();
        assert_eq!(allowed.to_string(), entry);
    }
}
