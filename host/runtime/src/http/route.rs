//! A route of `[[trigger.http]]`, with Spin's meaning: `/hello` matches itself, `/users/:id` one segment, `/files/...`
//! the path itself and everything below it.

use std::fmt;

use anyhow::Context as _;
use http::{HeaderName, HeaderValue};

/// A route.
#[derive(Debug)]
pub(crate) struct Route {
    /// As the manifest has it.
    text: String,
    /// The segments before the wildcard.
    segments: Vec<Segment>,
    wildcard: bool,
    /// The text, and the text without the wildcard, as headers hand them on.
    as_header: [HeaderValue; 2],
}

#[derive(Debug)]
enum Segment {
    Exact(String),
    /// `:name`, with the header that its value is handed on in.
    Named(HeaderName),
}

impl Route {
    /// Reads a route, which starts with `/`.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (base, wildcard) = match text.strip_suffix("/...") {
            Some(base) => (base, true),
            None => (text, false),
        };
        let segments = base.split('/').skip(1).map(|segment| {
            if segment == "..." {
                anyhow::bail!("route \"{text}\": `...` may stand at the end only");
            }
            let Some(name) = segment.strip_prefix(':') else {
                return Ok(Segment::Exact(segment.to_owned()));
            };
            anyhow::ensure!(
                !name.is_empty(),
                "route \"{text}\": `:` needs a name behind it, like `:id`"
            );
            // A header's name has no `_`, so Spin writes `-`.
            match HeaderName::try_from(format!("spin-path-match-{}", name.replace('_', "-"))) {
                Ok(header) => Ok(Segment::Named(header)),
                Err(_) => anyhow::bail!(
                    "route \"{text}\": the name `:{name}` becomes part of a header, so it may have letters from a to z, digits, `-` and `_` only"
                ),
            }
        });
        let segments = segments.collect::<anyhow::Result<_>>()?;
        let header = |part: &str| {
            HeaderValue::from_bytes(part.as_bytes()).with_context(|| {
                format!("route \"{text}\" has a character that no request's path has")
            })
        };
        Ok(Self {
            text: text.to_owned(),
            segments,
            wildcard,
            as_header: [header(text)?, header(base)?],
        })
    }

    /// Whether it matches a path.
    pub(super) fn matches(&self, path: &str) -> bool {
        let mut values = path.split('/').skip(1);
        let base = self.segments.iter().all(|segment| match segment {
            Segment::Exact(text) => values.next() == Some(text),
            Segment::Named(_) => values.next().is_some_and(|value| !value.is_empty()),
        });
        base && (self.wildcard || values.next().is_none())
    }

    /// Two routes of the same shape match the same paths.
    pub(super) fn shape(&self) -> (Vec<Option<String>>, bool) {
        let segment = |segment: &Segment| match segment {
            Segment::Exact(text) => Some(text.clone()),
            Segment::Named(_) => None,
        };
        (self.segments.iter().map(segment).collect(), self.wildcard)
    }

    /// Where several routes match a path, the one of the least precedence number is meant.
    pub(super) fn precedence(&self) -> Vec<u8> {
        let segment = |segment: &Segment| match segment {
            Segment::Exact(_) => 0,
            Segment::Named(_) => 1,
        };
        let segments = self.segments.iter().map(segment);
        segments.chain(self.wildcard.then_some(2)).collect()
    }

    /// The route as the manifest has it, `/files/...`, and without its wildcard, `/files`.
    pub(super) fn as_header(&self) -> &[HeaderValue; 2] {
        &self.as_header
    }

    /// What of a path, which this route has matched, the wildcard stands for: `/b/c` of `/a/b/c` for `/a/...`.
    pub(super) fn trailing<'p>(&self, path: &'p str) -> &'p str {
        if !self.wildcard {
            return "";
        }
        path.match_indices('/')
            .nth(self.segments.len())
            .map_or("", |(start, _)| &path[start..])
    }

    /// The values of its named segments in a path that it has matched, with the header for each.
    pub(super) fn named<'a>(
        &'a self,
        path: &'a str,
    ) -> impl Iterator<Item = (&'a HeaderName, &'a str)> {
        self.segments
            .iter()
            .zip(path.split('/').skip(1))
            .filter_map(|(segment, value)| match segment {
                Segment::Named(header) => Some((header, value)),
                Segment::Exact(_) => None,
            })
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
    fn the_wildcard_stands_for_the_rest_of_the_path_with_its_slash() {
        let trailing = |route: &str, path: &'static str| -> &'static str {
            Route::parse(route).unwrap().trailing(path)
        };
        assert_eq!(trailing("/a/...", "/a/b/c"), "/b/c");
        assert_eq!(trailing("/a/...", "/a/"), "/");
        assert_eq!(trailing("/a/...", "/a"), "");
        assert_eq!(trailing("/a/:id/...", "/a/1/x"), "/x");
        assert_eq!(trailing("/...", "/x/y"), "/x/y");
        assert_eq!(trailing("/a", "/a"), "");
    }

    #[test]
    fn names_that_no_header_can_have_are_refused() {
        for route in ["/:", "/:a b", "/:ä", "/.../a"] {
            assert!(Route::parse(route).is_err(), "{route}");
        }
    }
}
