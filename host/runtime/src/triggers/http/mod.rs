//! The HTTP trigger: a server that routes requests to components.

mod body;
mod buffered_body;
mod config;
mod guard;
mod handler;
mod jobs;
mod metrics;
mod response;
mod response_body;
mod route;
mod router;
mod routes;
mod server;
mod spin_headers;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;

use manifest::{Manifest, Section};
use tokio_util::sync::CancellationToken;

pub(crate) use handler::HttpHandler;
pub use handler::Interface;
pub use response_body::ResponseBody;
pub use routes::{HasRoutes, Routes};
pub use server::{Server, ServerConfig};

use super::trigger::{Sources, Trigger};
use crate::engine::{Component, Outline};
use config::Paths;
use jobs::JobsEndpoint;
use routes::Endpoint;

/// The trigger `[[trigger.http]]`.
pub(crate) struct Http;

impl Trigger for Http {
    const KIND: &'static str = "http";
    type Handler = HttpHandler;
    type Table = Routes;

    fn section() -> Section {
        Section::of::<config::Config>(Self::KIND)
    }

    fn components(manifest: &Manifest) -> Vec<&str> {
        let public = manifest
            .triggers_of(Self::KIND)
            .filter(|trigger| config::paths(trigger).is_ok_and(|paths| paths.is_some()));
        public.map(|trigger| trigger.component.as_str()).collect()
    }

    fn check(id: &str, outline: &Outline) -> anyhow::Result<()> {
        handler::check(id, outline)
    }

    fn handler(component: &Arc<Component>) -> anyhow::Result<HttpHandler> {
        HttpHandler::new(component)
    }

    fn interface(handler: &HttpHandler) -> String {
        handler.interface().to_string()
    }

    fn table(
        manifest: &Manifest,
        handlers: &BTreeMap<&str, Arc<HttpHandler>>,
        sources: &Sources,
    ) -> anyhow::Result<Routes> {
        let mut routes = Vec::new();
        for trigger in manifest.triggers_of(Self::KIND) {
            let Some(Paths { route, jobs }) = config::paths(trigger)? else {
                continue;
            };
            let handler = &handlers[trigger.component.as_str()];
            if let Some(path) = jobs {
                anyhow::ensure!(
                    !route.contains("/:") && !route.contains('*') && !route.ends_with("/..."),
                    "route \"{route}\" has jobs, so it must be a single path, without `:name`, `*` and `...`"
                );
                anyhow::ensure!(
                    path.starts_with('/') && !path.contains("/:") && !path.contains("..."),
                    "jobs \"{path}\" must be a path like \"/jobs\""
                );
                let jobs = sources.jobs.clone();
                let endpoint = JobsEndpoint::new(&path, &route, Arc::clone(handler), jobs);
                let endpoint = Endpoint::Jobs(Arc::new(endpoint));
                let path = path.trim_end_matches('/');
                routes.push((path.to_owned(), endpoint.clone()));
                routes.push((format!("{path}/:id"), endpoint));
            }
            routes.push((route, Endpoint::Component(Arc::clone(handler))));
        }
        Routes::new(routes)
    }

    fn start(routes: &Routes, _: Option<&Routes>, _: &Sources, stop: &CancellationToken) {
        routes.start_workers(stop);
    }

    fn describe(routes: &Routes, id: &str) -> Vec<String> {
        routes.of(id)
    }
}
