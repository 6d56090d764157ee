//! Maps paths to routes by the rules of Spin's router: an exact segment takes precedence over `:name`, and `:name` over `...`,
//! from left to right.

use std::collections::BTreeSet;

use routefinder::Segment;

use super::route::Route;

/// Maps paths to values, each with its route.
pub(crate) struct Router<T> {
    /// In order of precedence: the first match wins.
    routes: routefinder::Router<(Route, T)>,
}

/// The match of a path.
pub(crate) struct Found<'r, 'p, T> {
    pub(crate) route: &'r Route,
    pub(crate) value: &'r T,
    /// Parts of the path that the named segments matched, then the wildcard's.
    pub(crate) captures: Vec<&'p str>,
}

impl<T> Router<T> {
    /// Creates the router from routes and their values.
    pub(crate) fn new(routes: impl IntoIterator<Item = (String, T)>) -> anyhow::Result<Self> {
        let mut shapes = BTreeSet::new();
        let mut router = routefinder::Router::new();
        for (route, value) in routes {
            let (route, spec) = Route::parse(&route)?;
            let shape: Vec<String> = spec.segments().iter().map(shape).collect();
            anyhow::ensure!(
                shapes.insert(shape),
                "route \"{route}\" clashes with another route, which matches the same paths; change one of the two"
            );
            router
                .add(spec, (route, value))
                .map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        Ok(Self { routes: router })
    }

    /// Returns the route that matches a path, with its value.
    pub(crate) fn find<'r, 'p>(&'r self, path: &'p str) -> Option<Found<'r, 'p, T>> {
        self.routes.iter().find_map(|(spec, (route, value))| {
            spec.matches(path).map(|captures| Found {
                route,
                value,
                captures,
            })
        })
    }
}

/// Returns a segment without its name: routes with the same shape match the same paths.
fn shape(segment: &Segment) -> String {
    match segment {
        Segment::Exact(text) => format!("={text}"),
        Segment::Param(_) => ":".into(),
        Segment::Wildcard => "*".into(),
        Segment::Slash => "/".into(),
        Segment::Dot => ".".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::Router;

    fn find(routes: &[&str], path: &str) -> Option<String> {
        let router =
            Router::new(routes.iter().map(|r| ((*r).to_owned(), (*r).to_owned()))).unwrap();
        router.find(path).map(|found| found.value.clone())
    }

    /// Routes of one manifest, paths, and the route that Spin's `crates/routes` chooses for each, by its documentation and tests.
    #[test]
    fn paths_are_routed_as_in_spin() {
        type Paths = &'static [(&'static str, Option<&'static str>)];
        let grid: &[(&[&str], Paths)] = &[
            (&["/"], &[("/", Some("/")), ("/a", None), ("//", Some("/"))]),
            (
                &["/a"],
                &[
                    ("/a", Some("/a")),
                    ("/a/", Some("/a")),
                    ("/a//", Some("/a")),
                    ("/a/b", None),
                    ("/ab", None),
                    ("/A", None),
                    ("/", None),
                ],
            ),
            (&["/a/"], &[("/a", Some("/a/")), ("/a/", Some("/a/"))]),
            (
                &["/a/..."],
                &[
                    ("/a", Some("/a/...")),
                    ("/a/", Some("/a/...")),
                    ("/a/b", Some("/a/...")),
                    ("/a/b/c/", Some("/a/...")),
                    ("/ab", None),
                    ("/", None),
                ],
            ),
            (
                &["/shop/*"],
                &[
                    ("/shop", Some("/shop/*")),
                    ("/shop/a/b", Some("/shop/*")),
                    ("/shops", None),
                ],
            ),
            (
                &["/..."],
                &[
                    ("/", Some("/...")),
                    ("/x", Some("/...")),
                    ("/x/y/", Some("/...")),
                ],
            ),
            (
                &["/a/:id"],
                &[
                    ("/a/1", Some("/a/:id")),
                    ("/a/1/", Some("/a/:id")),
                    ("/a", None),
                    ("/a/", None),
                    ("/a/1/b", None),
                ],
            ),
            (
                &["/a/:id", "/a/..."],
                &[
                    ("/a/1", Some("/a/:id")),
                    ("/a/1/", Some("/a/:id")),
                    ("/a/1/2", Some("/a/...")),
                    ("/a", Some("/a/...")),
                    ("/a/", Some("/a/...")),
                ],
            ),
            (
                &["/...", "/a/...", "/a", "/a/:id", "/a/b"],
                &[
                    ("/a", Some("/a")),
                    ("/a/", Some("/a")),
                    ("/a/b", Some("/a/b")),
                    ("/a/c", Some("/a/:id")),
                    ("/a/c/d", Some("/a/...")),
                    ("/z", Some("/...")),
                    ("/", Some("/...")),
                ],
            ),
            (
                &["/:x/b", "/a/:y"],
                &[("/a/b", Some("/a/:y")), ("/c/b", Some("/:x/b"))],
            ),
            (
                &["/a/:id", "/a/:name/b"],
                &[("/a/1", Some("/a/:id")), ("/a/1/b", Some("/a/:name/b"))],
            ),
            (
                &["/:name.json", "/:name"],
                &[("/x.json", Some("/:name.json")), ("/x", Some("/:name"))],
            ),
        ];
        for (routes, paths) in grid {
            for (path, expected) in *paths {
                assert_eq!(
                    find(routes, path).as_deref(),
                    *expected,
                    "{path} of {routes:?}"
                );
                let reversed: Vec<&str> = routes.iter().rev().copied().collect();
                assert_eq!(
                    find(&reversed, path).as_deref(),
                    *expected,
                    "{path} of {reversed:?}"
                );
            }
        }
    }

    #[test]
    fn clashing_and_malformed_routes_are_refused() {
        let build =
            |routes: &[&str]| Router::new(routes.iter().map(|r| ((*r).to_owned(), ()))).map(|_| ());
        assert!(build(&["/a", "/a"]).is_err());
        assert!(build(&["/a", "/a/"]).is_err());
        assert!(build(&["/a/*", "/a/..."]).is_err());
        assert!(build(&["/a/:x", "/a/:y"]).is_err());
        assert!(build(&["/a/:", "/b"]).is_err());
        assert!(build(&["/a/.../b"]).is_err());
    }
}
