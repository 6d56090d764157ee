//! The path of jobs: `POST` creates one, `GET` of its id tells where it stands, `DELETE` cancels or removes it.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt as _;
use http::header::LOCATION;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyDataStream;
use queue::jobs::{Error, Jobs, Record, Revision, State};
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::headers::kept;
use super::view::View;
use super::worker;
use crate::error::{Code, Failure};
use crate::invocation::Stop;
use crate::triggers::http::body::RequestBody;
use crate::triggers::http::handler::HttpHandler;
use crate::triggers::http::response::{json_response, method_not_allowed};
use crate::triggers::http::response_body::ResponseBody;

/// How long clients are asked to wait before a retry when JetStream is not available.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A path of jobs, which are requests to a route.
pub(crate) struct JobsEndpoint {
    /// The path, without a slash at the end.
    path: String,
    /// The route that the requests are for.
    route: String,
    handler: Arc<HttpHandler>,
    jobs: Option<Arc<Jobs>>,
}

impl JobsEndpoint {
    pub(crate) fn new(
        path: &str,
        route: &str,
        handler: Arc<HttpHandler>,
        jobs: Option<Arc<Jobs>>,
    ) -> Self {
        Self {
            path: path.trim_end_matches('/').to_owned(),
            route: route.to_owned(),
            handler,
            jobs,
        }
    }

    /// Returns the id of the component that runs the jobs.
    pub(crate) fn id(&self) -> &Arc<str> {
        self.handler.id()
    }

    /// Starts to run jobs of the component, until `stop` is cancelled.
    pub(crate) fn start_worker(&self, stop: &CancellationToken) {
        if let Some(jobs) = &self.jobs {
            let (jobs, handler) = (Arc::clone(jobs), Arc::clone(&self.handler));
            tokio::spawn(worker::serve(jobs, handler, stop.clone()));
        }
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
            (&Method::GET | &Method::HEAD, id) => show(jobs, parse(id)?).await,
            (&Method::DELETE, id) => remove(jobs, parse(id)?).await,
            _ => Ok(method_not_allowed(
                "use GET, HEAD, DELETE",
                "GET, HEAD, DELETE",
            )),
        }
    }

    async fn create(
        &self,
        jobs: &Jobs,
        request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, Failure> {
        let target = self.handler.target();
        if request.body().min_size() > target.limits.request_body.as_u64() {
            return Err(target.failure(Stop::BodyTooLarge));
        }
        let id = Uuid::now_v7();
        let query = request.uri().path_and_query().and_then(PathAndQuery::query);
        let path = match query {
            Some(query) => format!("{}?{query}", self.route),
            None => self.route.clone(),
        };
        let request_of_job = queue::jobs::Request {
            path,
            headers: kept(request.headers()),
        };
        let record = Record::new(target.id.as_ref(), request_of_job);
        // The limit that the body violated: its reader has no other error than its own.
        let stopped = Arc::new(OnceLock::new());
        let stop = Arc::clone(&stopped);
        let body = request.into_body().limited(&target.limits, move |limit| {
            let _ = stop.set(limit);
        });
        let bytes = BodyDataStream::new(body).map(|bytes| bytes.map_err(io::Error::other));
        let created = jobs
            .create(id, &record, &mut StreamReader::new(bytes))
            .await;
        match (created, stopped.get()) {
            (Ok(()), _) => {}
            (Err(Error::Incomplete), Some(&stop)) => return Err(target.failure(stop)),
            (Err(Error::Incomplete), None) => {
                return Err(Failure::new(
                    Code::BadRequest,
                    "the body is incomplete: send it again".into(),
                ));
            }
            (Err(error), _) => return Err(failed(&error)),
        }
        let text = View::new(id, &record, None).json();
        let mut response = json_response(StatusCode::ACCEPTED, text);
        if let Ok(location) = HeaderValue::try_from(format!("{}/{id}", self.path)) {
            response.headers_mut().insert(LOCATION, location);
        }
        Ok(response)
    }
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

async fn show(jobs: &Jobs, id: Uuid) -> Result<Response<ResponseBody>, Failure> {
    let found = jobs.get(id).await.map_err(|error| failed(&error))?;
    let (record, _) = found.ok_or_else(|| no_job(id))?;
    let long = match &record.state {
        State::Done { result: None } => {
            let long = jobs.long_result(id).await.map_err(|error| failed(&error))?;
            Some(long.ok_or_else(|| no_job(id))?)
        }
        _ => None,
    };
    let text = View::new(id, &record, long.as_deref()).json();
    Ok(json_response(StatusCode::OK, text))
}

/// Cancels a job that has not ended, or removes one that has.
async fn remove(jobs: &Jobs, id: Uuid) -> Result<Response<ResponseBody>, Failure> {
    loop {
        let found = jobs.get(id).await.map_err(|error| failed(&error))?;
        let (record, revision) = found.ok_or_else(|| no_job(id))?;
        match cancel(jobs, id, record, revision).await {
            Ok(()) => break,
            // Its worker has just changed it.
            Err(Error::Conflict) => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    let mut response = Response::new(ResponseBody::host(String::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

async fn cancel(jobs: &Jobs, id: Uuid, record: Record, revision: Revision) -> Result<(), Error> {
    if record.state.is_final() {
        return jobs.remove(id).await;
    }
    let record = Record {
        state: State::Cancelled,
        ..record
    };
    jobs.update(id, &record, revision).await?;
    jobs.remove_body(id).await
}

fn failed(error: &Error) -> Failure {
    tracing::warn!(%error, "a request for a job failed");
    Failure::new(
        Code::Overloaded,
        "jobs cannot be reached at the moment; try again shortly".into(),
    )
    .retry_after(RETRY_AFTER)
}
