//! The path of jobs: `POST` creates one, `GET` of its id tells where it stands, `DELETE` cancels or removes it.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use queue::jobs::{self, Error, Jobs, Priority, Record, Revision, State};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::content::ContentDigest;
use super::parameters::Parameters;
use super::response::headers_of_job;
use super::submit::{Submission, unavailable};
use super::view::View;
use crate::error::{Code, Failure};
use crate::invocation::Stop;
use crate::triggers::http::body::RequestBody;
use crate::triggers::http::handler::HttpHandler;
use crate::triggers::http::response::{json_response, method_not_allowed};
use crate::triggers::http::response_body::ResponseBody;

/// A path of jobs, which are requests to a route.
pub(crate) struct JobsEndpoint {
    /// The path, without a slash at the end.
    path: String,
    /// The route that the requests are for.
    route: String,
    handler: Arc<HttpHandler>,
    jobs: Option<Arc<Jobs>>,
    /// Whether this host and the workers can sign callbacks.
    calls_back: bool,
}

impl JobsEndpoint {
    pub(crate) fn new(
        path: &str,
        route: &str,
        handler: Arc<HttpHandler>,
        jobs: Option<Arc<Jobs>>,
        calls_back: bool,
    ) -> Self {
        Self {
            path: path.trim_end_matches('/').to_owned(),
            route: route.to_owned(),
            handler,
            jobs,
            calls_back,
        }
    }

    /// Returns the id of the component that runs the jobs.
    pub(crate) fn id(&self) -> &Arc<str> {
        self.handler.id()
    }

    /// Handles a request to the path, or below it.
    pub(crate) async fn handle(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, Failure> {
        let Some(jobs) = &self.jobs else {
            return Err(Failure::new(
                Code::Overloaded,
                "this host keeps no jobs: start it with --nats nats://HOST:4222".into(),
            ));
        };
        let path = request.uri().path().trim_end_matches('/');
        let id = path.strip_prefix(&self.path).unwrap_or_default();
        match (request.method(), id.trim_start_matches('/')) {
            (&Method::POST, "") => self.create(jobs, request).await,
            (_, "") => Ok(method_not_allowed("use POST", "POST")),
            (&Method::GET | &Method::HEAD, id) => self.show(jobs, parse(id)?).await,
            (&Method::DELETE, id) => self.remove(jobs, parse(id)?).await,
            _ => Ok(method_not_allowed(
                "use GET, HEAD, DELETE",
                "GET, HEAD, DELETE",
            )),
        }
    }

    async fn create(
        &self,
        jobs: &Arc<Jobs>,
        request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, Failure> {
        let target = self.handler.target();
        let (head, body) = request.into_parts();
        if body.min_size() > target.limits.request_body.as_u64() {
            return Err(target.failure(Stop::BodyTooLarge));
        }
        let query = head.uri.path_and_query().and_then(PathAndQuery::query);
        let parameters = Parameters::parse(query)?;
        if let Some(url) = &parameters.callback_url {
            self.check_callback(url)?;
        }
        let path = match &parameters.rest {
            Some(query) => format!("{}?{query}", self.route),
            None => self.route.clone(),
        };
        let digest = parameters.deduplicate.then(|| {
            let content_type = content_type(&head.headers);
            let callback = parameters.callback_url.as_deref().unwrap_or_default();
            ContentDigest::new(&[&target.id, &path, callback], content_type)
        });
        let request = jobs::Request {
            method: Method::POST.to_string(),
            uri: format!("http://localhost{path}"),
            headers: headers_of_job(&head.headers),
            has_body: !body.is_empty(),
        };
        let id = Uuid::now_v7();
        let mut record = Record::new(&target.id, Priority::Low, request);
        record.callback_url = parameters.callback_url;
        let submission = Submission {
            jobs: Arc::clone(jobs),
            target: Arc::clone(target),
            id,
            record: record.clone(),
            digest,
            abandoned: CancellationToken::new(),
        };
        let first = submission.run(body).await?;
        let (status, text) = match first == id {
            true => (StatusCode::ACCEPTED, View::new(id, &record, None).json()),
            false => (StatusCode::OK, self.view(jobs, first).await?.json()),
        };
        let mut response = json_response(status, text);
        if let Ok(location) = HeaderValue::try_from(format!("{}/{first}", self.path)) {
            response.headers_mut().insert(LOCATION, location);
        }
        Ok(response)
    }

    /// Checks that the host may call back, and the component may reach the address.
    fn check_callback(&self, url: &str) -> Result<(), Failure> {
        if !self.calls_back {
            return Err(Failure::new(
                Code::BadRequest,
                "this host calls nobody back: start it with --webhook-secret-file".into(),
            ));
        }
        let uri = url.parse().map_err(|_| {
            Failure::new(
                Code::BadRequest,
                "callback_url is not a URL: write it like https://example.com/path".into(),
            )
        })?;
        let servers = self.handler.servers();
        if servers.is_none_or(|servers| !servers.allows(&uri)) {
            return Err(Failure::new(
                Code::Forbidden,
                format!(
                    "callback_url is not in the allowed_outbound_hosts of component {}",
                    self.handler.id()
                ),
            ));
        }
        Ok(())
    }

    /// Returns the record of a job of the component.
    async fn find(&self, jobs: &Jobs, id: Uuid) -> Result<(Record, Revision), Failure> {
        let found = jobs.get(id).await.map_err(|error| unavailable(&error))?;
        let own = found.filter(|(record, _)| record.component == **self.handler.id());
        own.ok_or_else(|| no_job(id))
    }

    async fn view(&self, jobs: &Jobs, id: Uuid) -> Result<View, Failure> {
        let (record, _) = self.find(jobs, id).await?;
        let response = record.state.response();
        let long = match response.is_some_and(|response| response.body.is_none()) {
            true => {
                let long = jobs.long_response(id).await;
                let long = long.map_err(|error| unavailable(&error))?;
                Some(long.ok_or_else(|| no_job(id))?)
            }
            false => None,
        };
        Ok(View::new(id, &record, long))
    }

    async fn show(&self, jobs: &Jobs, id: Uuid) -> Result<Response<ResponseBody>, Failure> {
        let text = self.view(jobs, id).await?.json();
        Ok(json_response(StatusCode::OK, text))
    }

    /// Cancels a job that has not ended, or removes one that has.
    async fn remove(&self, jobs: &Jobs, id: Uuid) -> Result<Response<ResponseBody>, Failure> {
        loop {
            let (record, revision) = self.find(jobs, id).await?;
            let removed = match record.state.is_final() {
                true => jobs.remove(id).await,
                false => cancel(jobs, id, record, revision).await,
            };
            match removed {
                Ok(()) => break,
                // Its worker has just changed it.
                Err(Error::Conflict) => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
        let mut response = Response::new(ResponseBody::host(String::new()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn parse(id: &str) -> Result<Uuid, Failure> {
    id.parse().map_err(|_| no_job(id))
}

fn no_job(id: impl std::fmt::Display) -> Failure {
    Failure::new(
        Code::NotFound,
        format!("there is no job {id}; it may have expired"),
    )
}

/// Cancels a job that has not ended.
async fn cancel(
    jobs: &Jobs,
    id: Uuid,
    mut record: Record,
    revision: Revision,
) -> Result<(), Error> {
    record.state = State::Cancelled;
    jobs.update(id, &mut record, revision).await?;
    jobs.remove_body(id).await
}
