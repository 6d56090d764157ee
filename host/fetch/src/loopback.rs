//! Loopback hosts.

/// Returns whether a host, with or without a port, is `localhost` or a loopback address.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    // An IPv6 address with a port is in brackets.
    let host = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => host,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn loopback_hosts_are_recognised() {
        for registry in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "[::1]:5000",
        ] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in [
            "registry.example",
            "localhost.example:5000",
            "10.0.0.1:5000",
        ] {
            assert!(!is_loopback(registry), "{registry}");
        }
    }
}
