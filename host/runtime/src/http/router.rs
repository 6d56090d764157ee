//! From paths to routes: an exact segment goes before `:name`, and `:name` before `...`, from left to right.

use std::collections::BTreeSet;

use super::route::Route;

/// From paths to values, each with its route.
pub(crate) struct Router<T> {
    /// The first that matches is the right one. There are as many as a manifest has, so looking at each in turn is fast.
    routes: Vec<(Route, T)>,
}

impl<T> Router<T> {
    /// Builds the router from routes and what they lead to.
    pub(crate) fn new(routes: impl IntoIterator<Item = (String, T)>) -> anyhow::Result<Self> {
        let mut shapes = BTreeSet::new();
        let mut routes = routes
            .into_iter()
            .map(|(route, value)| {
                let route = Route::parse(&route)?;
                anyhow::ensure!(
                    shapes.insert(route.shape()),
                    "route \"{route}\" clashes with another route, which matches the same paths; change one of the two"
                );
                Ok((route, value))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        routes.sort_by_cached_key(|(route, _)| route.precedence());
        Ok(Self { routes })
    }

    /// What a path leads to, and by which route.
    pub(crate) fn find(&self, path: &str) -> Option<(&Route, &T)> {
        self.routes
            .iter()
            .find(|(route, _)| route.matches(path))
            .map(|(route, value)| (route, value))
    }
}

#[cfg(test)]
mod tests {
    use super::Router;

    fn find(routes: &[&str], path: &str) -> Option<String> {
        let router =
            Router::new(routes.iter().map(|r| ((*r).to_owned(), (*r).to_owned()))).unwrap();
        router.find(path).map(|(_, value)| value.clone())
    }

    #[test]
    fn exact_routes_match_only_themselves() {
        assert_eq!(find(&["/a"], "/a").as_deref(), Some("/a"));
        assert_eq!(find(&["/a"], "/a/"), None);
        assert_eq!(find(&["/a"], "/a/b"), None);
        assert_eq!(find(&["/"], "/").as_deref(), Some("/"));
        assert_eq!(find(&["/"], "/a"), None);
    }

    #[test]
    fn a_wildcard_matches_its_folder_and_everything_below() {
        for path in ["/a", "/a/", "/a/b", "/a/b/c"] {
            assert_eq!(find(&["/a/..."], path).as_deref(), Some("/a/..."), "{path}");
        }
        assert_eq!(find(&["/a/..."], "/ab"), None);
        for path in ["/", "/x", "/x/y"] {
            assert_eq!(find(&["/..."], path).as_deref(), Some("/..."), "{path}");
        }
    }

    #[test]
    fn the_more_exact_route_wins() {
        let routes = ["/...", "/a/...", "/a", "/a/:id", "/a/b"];
        assert_eq!(find(&routes, "/a").as_deref(), Some("/a"));
        assert_eq!(find(&routes, "/a/b").as_deref(), Some("/a/b"));
        assert_eq!(find(&routes, "/a/c").as_deref(), Some("/a/:id"));
        assert_eq!(find(&routes, "/a/c/d").as_deref(), Some("/a/..."));
        assert_eq!(find(&routes, "/z").as_deref(), Some("/..."));
        assert_eq!(find(&["/:x/b", "/a/:y"], "/a/b").as_deref(), Some("/a/:y"));
    }

    #[test]
    fn a_named_segment_matches_one_segment_that_is_not_empty() {
        assert_eq!(find(&["/a/:id"], "/a/1").as_deref(), Some("/a/:id"));
        for path in ["/a", "/a/", "/a/1/", "/a/1/b"] {
            assert_eq!(find(&["/a/:id"], path), None, "{path}");
        }
        let routes = ["/a/:id", "/a/:name/b"];
        assert_eq!(find(&routes, "/a/1/b").as_deref(), Some("/a/:name/b"));
    }

    #[test]
    fn clashing_and_malformed_routes_are_refused() {
        let build =
            |routes: &[&str]| Router::new(routes.iter().map(|r| ((*r).to_owned(), ()))).map(|_| ());
        assert!(build(&["/a", "/a"]).is_err());
        assert!(build(&["/a/:x", "/a/:y"]).is_err());
        assert!(build(&["/a/:", "/b"]).is_err());
        assert!(build(&["/a/.../b"]).is_err());
    }
}
