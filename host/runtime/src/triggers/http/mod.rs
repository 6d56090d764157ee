//! The HTTP trigger: a server that routes requests to components.

mod body;
mod buffered_body;
mod config;
mod guard;
mod handler;
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

pub(crate) use handler::HttpHandler;
pub use handler::Interface;
pub use response_body::ResponseBody;
pub use routes::{HasRoutes, Routes};
pub use server::{Server, ServerConfig};

use super::trigger::Trigger;
use crate::engine::{Component, Outline};

/// The trigger `[[trigger.http]]`.
pub(crate) struct Http;

const KIND: &str = "http";

impl Trigger for Http {
    type Handler = HttpHandler;
    type Table = Routes;

    fn section() -> Section {
        Section::of::<config::Config>(KIND)
    }

    fn components(manifest: &Manifest) -> Vec<&str> {
        let public = manifest
            .triggers_of(KIND)
            .filter(|trigger| config::route(trigger).is_ok_and(|route| route.is_some()));
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
    ) -> anyhow::Result<Routes> {
        let mut routes = Vec::new();
        for trigger in manifest.triggers_of(KIND) {
            if let Some(route) = config::route(trigger)? {
                let handler = &handlers[trigger.component.as_str()];
                routes.push((route, Arc::clone(handler)));
            }
        }
        Routes::new(routes)
    }

    fn describe(routes: &Routes, id: &str) -> Vec<String> {
        routes.of(id)
    }
}
