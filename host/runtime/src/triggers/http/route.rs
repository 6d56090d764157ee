//! A route of `[[trigger.http]]`, as in Spin: `/hello` matches itself, `/users/:id` one segment, `/files/...` the path itself and
//! everything below it. Trailing slashes of paths and routes are ignored.

use std::fmt;

use anyhow::Context as _;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use routefinder::{RouteSpec, Segment};

/// Paths that the host handles itself.
const HOST_PATHS: [&str; 2] = ["/healthz", "/readyz"];
/// Prefix of Spin's own routes.
const SPIN_PREFIX: &str = "/.well-known/spin/";

/// A route.
#[derive(Debug)]
pub(crate) struct Route {
    /// As in the manifest.
    text: String,
    /// The headers for the values of its named segments, from left to right.
    named: Vec<HeaderName>,
    wildcard: bool,
    as_header: RouteHeaders,
}

/// A route as header values.
#[derive(Debug)]
pub(super) struct RouteHeaders {
    /// Without a trailing slash.
    pub(super) matched: HeaderValue,
    /// As in the manifest.
    pub(super) raw: HeaderValue,
    /// Without its wildcard.
    pub(super) component: HeaderValue,
}

impl Route {
    /// Parses a route, which starts with `/`. Returns it with the pattern of the paths it matches.
    pub(crate) fn parse(text: &str) -> anyhow::Result<(Self, RouteSpec)> {
        let names = text
            .split(['/', '.'])
            .filter_map(|segment| segment.strip_prefix(':'));
        let named = names.map(|name| {
            anyhow::ensure!(
                !name.is_empty(),
                "route \"{text}\": `:` needs a name after it, like `:id`"
            );
            // Spin writes `-` for `_` in header names.
            match HeaderName::try_from(format!("spin-path-match-{}", name.replace('_', "-"))) {
                Ok(header) => Ok(header),
                Err(_) => anyhow::bail!(
                    "route \"{text}\": the name `:{name}` becomes part of a header, so it may have letters from a to z, digits, `-` and `_` only"
                ),
            }
        });
        let named = named.collect::<anyhow::Result<_>>()?;
        anyhow::ensure!(
            PathAndQuery::try_from(text)
                .is_ok_and(|path| path.query().is_none() && path.path() == text),
            "route \"{text}\" has a character that no request's path has; write it percent-encoded"
        );
        let bare = text.trim_end_matches('/');
        anyhow::ensure!(
            !HOST_PATHS.contains(&bare) && !format!("{bare}/").starts_with(SPIN_PREFIX),
            "route \"{text}\" is never reached: the host answers {} itself, and Spin reserves {SPIN_PREFIX}; choose another path",
            HOST_PATHS.join(" and ")
        );
        let base = text.strip_suffix("/...");
        anyhow::ensure!(
            base.unwrap_or(text)
                .split('/')
                .all(|segment| segment != "..."),
            "route \"{text}\": `...` is allowed at the end only"
        );
        // routefinder writes `*` for `...`.
        let spec: Result<RouteSpec, String> = match base {
            Some(base) => format!("{base}/*").parse(),
            None => text.parse(),
        };
        let spec =
            spec.map_err(|error| anyhow::anyhow!("route \"{text}\" is malformed: {error}"))?;
        let segments = spec.segments();
        let wildcard = segments
            .iter()
            .position(|segment| *segment == Segment::Wildcard);
        anyhow::ensure!(
            wildcard.is_none_or(|first| first + 1 == segments.len()),
            "route \"{text}\": `*` is allowed at the end only"
        );
        let header = |part: &str| {
            HeaderValue::from_bytes(part.as_bytes()).with_context(|| {
                format!("route \"{text}\" has a character that no request's path has")
            })
        };
        let route = Self {
            text: text.to_owned(),
            named,
            wildcard: wildcard.is_some(),
            as_header: RouteHeaders {
                matched: header(text.strip_suffix('/').unwrap_or(text))?,
                raw: header(text)?,
                component: header(base.unwrap_or(text))?,
            },
        };
        Ok((route, spec))
    }

    pub(super) fn as_header(&self) -> &RouteHeaders {
        &self.as_header
    }

    /// Returns the part of a path that the wildcard matched, given the captures: `/b/c` of `/a/b/c` for `/a/...`, with the slashes of
    /// the path.
    pub(super) fn trailing(&self, path: &str, captures: &[&str]) -> String {
        match captures.last() {
            Some(rest) if self.wildcard => {
                let slash = |needed| if needed { "/" } else { "" };
                let end = path.ends_with('/');
                [slash(!rest.is_empty()), rest, slash(end)].concat()
            }
            _ => String::new(),
        }
    }

    /// Returns the captured values of named segments, with the header for each.
    pub(super) fn named<'a>(
        &'a self,
        captures: &'a [&str],
    ) -> impl Iterator<Item = (&'a HeaderName, &'a str)> {
        self.named.iter().zip(captures.iter().copied())
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::Route;

    #[test]
    fn the_wildcard_matches_the_rest_of_the_path_with_its_slashes() {
        let trailing = |route: &str, path: &str| {
            let (route, spec) = Route::parse(route).unwrap();
            route.trailing(path, &spec.matches(path).unwrap())
        };
        assert_eq!(trailing("/a/...", "/a/b/c"), "/b/c");
        assert_eq!(trailing("/a/...", "/a/b/c/"), "/b/c/");
        assert_eq!(trailing("/a/...", "/a/"), "/");
        assert_eq!(trailing("/a/...", "/a"), "");
        assert_eq!(trailing("/a/*", "/a/b"), "/b");
        assert_eq!(trailing("/a/:id/...", "/a/1/x"), "/x");
        assert_eq!(trailing("/...", "/x/y"), "/x/y");
        assert_eq!(trailing("/a", "/a"), "");
    }

    #[test]
    fn malformed_and_unreachable_routes_are_refused() {
        for route in [
            "/:",
            "/:a b",
            "/:ä",
            "/.../a",
            "/*/a",
            "/a/*/...",
            "/*a",
            "/a b",
            "/a?b",
            "/a#b",
            "/healthz",
            "/healthz/",
            "/readyz",
            "/.well-known/spin/health",
            "/.well-known/spin/...",
        ] {
            assert!(Route::parse(route).is_err(), "{route}");
        }
        for route in ["/healthz/a", "/.well-known/acme/...", "/a.b", "/:name.json"] {
            assert!(Route::parse(route).is_ok(), "{route}");
        }
    }
}
