//! A route of `[[trigger.http]]`, with Spin's meaning: `/hello` matches itself, `/users/:id` one segment, `/files/...`
//! the path itself and everything below it. Slashes at the end of a path or a route make no difference.

use std::fmt;

use anyhow::Context as _;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use routefinder::{RouteSpec, Segment};

/// Paths that no route is asked for.
const ANSWERED_BY_THE_HOST: [&str; 2] = ["/healthz", "/readyz"];
/// Where Spin has routes of its own.
const KEPT_BY_SPIN: &str = "/.well-known/spin/";

/// A route.
#[derive(Debug)]
pub(crate) struct Route {
    /// As the manifest has it.
    text: String,
    /// The headers that the values of its named segments are handed on in, from left to right.
    named: Vec<HeaderName>,
    wildcard: bool,
    as_header: RouteHeaders,
}

/// A route, as the headers of a request tell it.
#[derive(Debug)]
pub(super) struct RouteHeaders {
    /// Without a slash at its end.
    pub(super) matched: HeaderValue,
    /// As the manifest has it.
    pub(super) raw: HeaderValue,
    /// Without its wildcard.
    pub(super) component: HeaderValue,
}

impl Route {
    /// Reads a route, which starts with `/`: what it is, and which paths it matches.
    pub(crate) fn parse(text: &str) -> anyhow::Result<(Self, RouteSpec)> {
        let names = text
            .split(['/', '.'])
            .filter_map(|segment| segment.strip_prefix(':'));
        let named = names.map(|name| {
            anyhow::ensure!(
                !name.is_empty(),
                "route \"{text}\": `:` needs a name behind it, like `:id`"
            );
            // A header's name has no `_`, so Spin writes `-`.
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
            !ANSWERED_BY_THE_HOST.contains(&bare) && !format!("{bare}/").starts_with(KEPT_BY_SPIN),
            "route \"{text}\" is never reached: the host answers {} itself, and Spin keeps {KEPT_BY_SPIN} for itself; choose another path",
            ANSWERED_BY_THE_HOST.join(" and ")
        );
        let base = text.strip_suffix("/...");
        anyhow::ensure!(
            base.unwrap_or(text)
                .split('/')
                .all(|segment| segment != "..."),
            "route \"{text}\": `...` may stand at the end only"
        );
        // Spin's router has `*` where a manifest has `...`.
        let spec: Result<RouteSpec, String> = match base {
            Some(base) => format!("{base}/*").parse(),
            None => text.parse(),
        };
        let spec =
            spec.map_err(|error| anyhow::anyhow!("route \"{text}\" cannot be read: {error}"))?;
        let segments = spec.segments();
        let wildcard = segments
            .iter()
            .position(|segment| *segment == Segment::Wildcard);
        anyhow::ensure!(
            wildcard.is_none_or(|first| first + 1 == segments.len()),
            "route \"{text}\": `*` may stand at the end only"
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

    /// What the wildcard stands for, out of a path and what the route has captured of it: `/b/c` of `/a/b/c` for `/a/...`, with the
    /// slashes that the path has.
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

    /// The values of its named segments out of what it has captured, with the header for each.
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
    fn the_wildcard_stands_for_the_rest_of_the_path_with_its_slashes() {
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
    fn routes_that_cannot_be_read_or_reached_are_refused() {
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
