//! Spin's headers that tell a handler how its request was routed, with the same names and meaning.
//!
//! Only the host may set them: headers from clients that start with `spin-` are removed first.

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::route::Route;
use crate::http::Client;

/// Prefix of headers that only the host may set.
const PREFIX: &str = "spin-";

/// The whole URL.
const FULL_URL: HeaderName = HeaderName::from_static("spin-full-url");
/// The path relative to the route: what its wildcard matched.
const PATH_INFO: HeaderName = HeaderName::from_static("spin-path-info");
/// The route, below the application's base path, without a trailing slash.
const MATCHED_ROUTE: HeaderName = HeaderName::from_static("spin-matched-route");
/// The route as in the manifest.
const RAW_COMPONENT_ROUTE: HeaderName = HeaderName::from_static("spin-raw-component-route");
/// The route without its wildcard.
const COMPONENT_ROUTE: HeaderName = HeaderName::from_static("spin-component-route");
/// The application's base path, always `/`.
const BASE_PATH: HeaderName = HeaderName::from_static("spin-base-path");
/// Address and port of the client.
const CLIENT_ADDRESS: HeaderName = HeaderName::from_static("spin-client-addr");

/// Sets the headers of a request to `uri`, which `route` matched with `captures`. `client` is `None` for a request that did not come
/// over the network.
pub(crate) fn set(
    headers: &mut HeaderMap,
    uri: &Uri,
    route: &Route,
    captures: &[&str],
    client: Option<&Client>,
) {
    let foreign: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(PREFIX))
        .cloned()
        .collect();
    for name in foreign {
        headers.remove(name);
    }
    let as_header = route.as_header();
    headers.insert(MATCHED_ROUTE, as_header.matched.clone());
    headers.insert(RAW_COMPONENT_ROUTE, as_header.raw.clone());
    headers.insert(COMPONENT_ROUTE, as_header.component.clone());
    headers.insert(BASE_PATH, HeaderValue::from_static("/"));
    if let Some(client) = client {
        headers.insert(CLIENT_ADDRESS, client.as_header.clone());
    }
    // A matched path has only characters that a header value may have.
    let mut insert = |name: &HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    insert(&FULL_URL, uri_to_string(uri));
    insert(&PATH_INFO, route.trailing(uri.path(), captures));
    for (name, value) in route.named(captures) {
        insert(name, value.to_owned());
    }
}

/// Does the same as `uri.to_string()`, with a single allocation.
fn uri_to_string(uri: &Uri) -> String {
    match (uri.scheme_str(), uri.authority(), uri.path_and_query()) {
        (Some(scheme), Some(authority), Some(path)) => {
            [scheme, "://", authority.as_str(), path.as_str()].concat()
        }
        _ => uri.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Uri};

    use super::super::route::Route;
    use super::set;
    use crate::http::Client;

    fn headers(route: &str, url: &'static str, sent: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let uri = Uri::from_static(url);
        let (route, spec) = Route::parse(route).unwrap();
        set(
            &mut headers,
            &uri,
            &route,
            &spec.matches(uri.path()).unwrap(),
            Some(&Client::at("192.0.2.1:50000".parse().unwrap())),
        );
        headers
    }

    #[test]
    fn headers_say_how_a_request_was_routed() {
        let headers = headers(
            "/users/:user_id/...",
            "http://example.com/users/42/a/b?c=d",
            &[],
        );
        let expected = [
            ("spin-full-url", "http://example.com/users/42/a/b?c=d"),
            ("spin-path-info", "/a/b"),
            ("spin-matched-route", "/users/:user_id/..."),
            ("spin-raw-component-route", "/users/:user_id/..."),
            ("spin-component-route", "/users/:user_id"),
            ("spin-base-path", "/"),
            ("spin-client-addr", "192.0.2.1:50000"),
            ("spin-path-match-user-id", "42"),
        ];
        for (name, value) in expected {
            assert_eq!(headers[name], value, "{name}");
        }
        assert_eq!(headers.len(), expected.len());
    }

    #[test]
    fn headers_from_the_client_are_removed() {
        let headers = headers(
            "/a",
            "http://example.com/a",
            &[
                ("spin-client-addr", "127.0.0.1:1"),
                ("spin-client-addr", "127.0.0.1:2"),
                ("spin-path-match-admin", "yes"),
                ("accept", "*/*"),
            ],
        );
        assert_eq!(headers.get_all("spin-client-addr").iter().count(), 1);
        assert_eq!(headers["spin-client-addr"], "192.0.2.1:50000");
        assert!(!headers.contains_key("spin-path-match-admin"));
        assert_eq!(headers["accept"], "*/*");
    }
}
