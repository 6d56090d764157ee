//! Routes requests to components by path.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use tokio_util::sync::CancellationToken;

use super::body::RequestBody;
use super::handler::HttpHandler;
use super::jobs::{Dispatcher, JobsEndpoint, Worker};
use super::metrics::RequestDurations;
use super::response_body::ResponseBody;
use super::router::Router;
use super::spin_headers;
use crate::error::{Code, Failure};
use crate::http::Client;
use crate::invocation::{Caller, RequestIds};

/// What a route leads to.
#[derive(Clone)]
pub(super) enum Endpoint {
    Component(Arc<HttpHandler>),
    Workers(Arc<Dispatcher>),
    Jobs(Arc<JobsEndpoint>),
}

impl Endpoint {
    /// Returns the id of the component that handles the requests, at once or later.
    fn id(&self) -> &Arc<str> {
        match self {
            Self::Component(handler) => handler.id(),
            Self::Workers(dispatcher) => dispatcher.id(),
            Self::Jobs(jobs) => jobs.id(),
        }
    }

    /// Handles a request. Dropping the future, or the response's body before its end, stops the component.
    pub(super) async fn handle(
        &self,
        ids: RequestIds,
        caller: Caller,
        request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, Failure> {
        match self {
            Self::Component(handler) => handler.handle(ids, caller, request).await,
            Self::Workers(dispatcher) => dispatcher.handle(caller, request).await,
            Self::Jobs(jobs) => jobs.handle(request).await,
        }
    }
}

/// The routes of an application.
pub struct Routes {
    router: Router<(Arc<RequestDurations>, Endpoint)>,
    /// Each route with its component's id, in the order of the manifest.
    routes: Vec<(String, Arc<str>)>,
    workers: Vec<Arc<Worker>>,
}

/// Implemented by applications that the server can serve.
pub trait HasRoutes: Send + Sync + 'static {
    /// Returns the routes.
    fn routes(&self) -> &Routes;
}

impl Routes {
    pub(super) fn new(
        routes: Vec<(String, Endpoint)>,
        workers: Vec<Arc<Worker>>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            workers,
            routes: routes
                .iter()
                .map(|(route, handler)| (route.clone(), Arc::clone(handler.id())))
                .collect(),
            router: Router::new(routes.into_iter().map(|(route, handler)| {
                let durations = RequestDurations::new(route.as_str(), handler.id());
                (route, (Arc::new(durations), handler))
            }))?,
        })
    }

    /// Starts to count jobs, and to run them if `run`, until `stop` is cancelled.
    pub(super) fn start_workers(&self, run: bool, stop: &CancellationToken) {
        for worker in &self.workers {
            tokio::spawn(Arc::clone(worker).serve(run, stop.clone()));
        }
    }

    /// Returns the routes of a component.
    pub(super) fn of(&self, id: &str) -> Vec<String> {
        let routes = self.routes.iter().filter(|(_, to)| **to == *id);
        routes.map(|(route, _)| route.clone()).collect()
    }

    /// Returns the id of the component that a path leads to.
    pub(crate) fn owner(&self, path: &str) -> Option<&str> {
        self.router.find(path).map(|found| &**found.value.1.id())
    }

    /// Finds the route and the handler for a request's path, and sets the request's routing headers. `client` is `None` for a request that did not
    /// come over the network.
    ///
    /// # Errors
    /// [`Code::NotFound`] when no route matches.
    pub(super) fn route(
        &self,
        request: &mut Parts,
        client: Option<&Client>,
    ) -> Result<&(Arc<RequestDurations>, Endpoint), Failure> {
        let Parts { headers, uri, .. } = request;
        let Some(found) = self.router.find(uri.path()) else {
            let message = format!("no route matches {}", uri.path());
            return Err(Failure::new(Code::NotFound, message));
        };
        spin_headers::set(headers, uri, found.route, &found.captures, client);
        Ok(found.value)
    }

    /// Calls the component that a request's path leads to, without the network.
    ///
    /// # Errors
    /// [`Failure`], as a client would see it.
    pub async fn call<B>(&self, request: Request<B>) -> Result<Response<ResponseBody>, Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::fmt::Display,
    {
        let (mut parts, body) = request.into_parts();
        let (_, handler) = self.route(&mut parts, None)?;
        let request = Request::from_parts(parts, RequestBody::new(body));
        handler
            .handle(RequestIds::new(), Caller::Host, request)
            .await
    }
}
