//! Routes of `[[trigger.http]]`, with Spin's meaning: `/hello` matches itself, `/users/:id` one segment, `/files/...`
//! the path itself and everything below it. An exact segment goes before `:name`, and `:name` before `...`.

use anyhow::Context as _;

/// From paths to values.
pub(crate) struct Router<T> {
    routes: matchit::Router<T>,
}

impl<T: Clone> Router<T> {
    /// Builds the router from routes and what they lead to.
    pub(crate) fn new(routes: impl IntoIterator<Item = (String, T)>) -> anyhow::Result<Self> {
        let routes: Vec<(String, T)> = routes.into_iter().collect();
        let mut router = matchit::Router::new();
        let (wildcards, exact): (Vec<_>, Vec<_>) = routes
            .iter()
            .partition(|(route, _)| route.ends_with("/..."));
        for (route, value) in exact {
            router
                .insert(pattern(route)?, value.clone())
                .with_context(|| format!("route \"{route}\" clashes with another route"))?;
        }
        for (route, value) in wildcards {
            let base = pattern(route.strip_suffix("/...").unwrap_or(route))?;
            router
                .insert(format!("{base}/{{*rest}}"), value.clone())
                .with_context(|| format!("route \"{route}\" clashes with another route"))?;
            // The folder itself, with and without a slash, unless a route of its own claims it.
            for folder in [base.clone(), format!("{base}/")] {
                if !folder.is_empty() {
                    let _ = router.insert(folder, value.clone());
                }
            }
        }
        Ok(Self { routes: router })
    }

    /// What a path leads to.
    pub(crate) fn find(&self, path: &str) -> Option<&T> {
        self.routes.at(path).ok().map(|found| found.value)
    }
}

/// Spin's form of a route, in matchit's.
fn pattern(route: &str) -> anyhow::Result<String> {
    let segments = route.split('/').map(|segment| {
        let escaped = segment.replace('{', "{{").replace('}', "}}");
        match segment.strip_prefix(':') {
            Some("") => anyhow::bail!("route \"{route}\": `:` needs a name behind it"),
            Some(name) => Ok(format!("{{{name}}}")),
            None if segment == "..." => {
                anyhow::bail!("route \"{route}\": `...` may stand at the end only")
            }
            None => Ok(escaped),
        }
    });
    Ok(segments.collect::<anyhow::Result<Vec<_>>>()?.join("/"))
}

#[cfg(test)]
mod tests {
    use super::Router;

    fn find(routes: &[&str], path: &str) -> Option<String> {
        let router =
            Router::new(routes.iter().map(|r| ((*r).to_owned(), (*r).to_owned()))).unwrap();
        router.find(path).cloned()
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
    }

    #[test]
    fn clashing_and_malformed_routes_are_refused() {
        let build =
            |routes: &[&str]| Router::new(routes.iter().map(|r| ((*r).to_owned(), ()))).map(|_| ());
        assert!(build(&["/a", "/a"]).is_err());
        assert!(build(&["/a/:", "/b"]).is_err());
        assert!(build(&["/a/.../b"]).is_err());
    }
}
