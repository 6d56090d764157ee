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
use crate::role::Role;
use config::Paths;
use jobs::{Dispatcher, JobsEndpoint, Worker};
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
        let (mut routes, mut workers) = (Vec::new(), BTreeMap::new());
        for trigger in manifest.triggers_of(Self::KIND) {
            let Some(Paths { route, jobs }) = config::paths(trigger)? else {
                continue;
            };
            let handler = &handlers[trigger.component.as_str()];
            if let Some(kept) = &sources.jobs
                && (jobs.is_some() || handler.uses_models())
            {
                let worker = Worker {
                    jobs: Arc::clone(kept),
                    handler: Arc::clone(handler),
                    webhooks: sources.webhooks.clone(),
                };
                workers.insert(trigger.component.as_str(), Arc::new(worker));
            }
            if let Some(path) = jobs {
                anyhow::ensure!(
                    !route.contains("/:") && !route.contains('*') && !route.ends_with("/..."),
                    "route \"{route}\" has jobs, so it must be a single path, without `:name`, `*` and `...`"
                );
                anyhow::ensure!(
                    path.starts_with('/') && !path.contains("/:") && !path.contains("..."),
                    "jobs \"{path}\" must be a path like \"/jobs\""
                );
                let (handler, jobs) = (Arc::clone(handler), sources.jobs.clone());
                let calls_back = sources.webhooks.is_some();
                let endpoint = JobsEndpoint::new(&path, &route, handler, jobs, calls_back);
                let endpoint = Endpoint::Jobs(Arc::new(endpoint));
                let path = path.trim_end_matches('/');
                routes.push((path.to_owned(), endpoint.clone()));
                routes.push((format!("{path}/:id"), endpoint));
            }
            let handler = Arc::clone(handler);
            let endpoint = match &sources.jobs {
                Some(jobs) if sources.role == Role::Http && handler.uses_models() => {
                    Endpoint::Workers(Arc::new(Dispatcher::new(handler, Arc::clone(jobs))))
                }
                _ => Endpoint::Component(handler),
            };
            routes.push((route, endpoint));
        }
        Routes::new(routes, workers.into_values().collect())
    }

    fn start(routes: &Routes, _: Option<&Routes>, sources: &Sources, stop: &CancellationToken) {
        routes.start_workers(sources.role != Role::Http, stop);
    }

    fn describe(routes: &Routes, id: &str) -> Vec<String> {
        routes.of(id)
    }
}
