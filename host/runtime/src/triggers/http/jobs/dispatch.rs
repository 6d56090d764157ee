//! Handing requests over to workers: on a host without a model, a request to a component that uses one is a job whose response the
//! request waits for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use queue::jobs::{self, Changes, Jobs, Priority, Record, State};
use tokio_util::sync::CancellationToken;
use tracing::Span;
use uuid::Uuid;

use super::response::{headers_to_keep, to_http};
use super::submit::{Submission, unavailable};
use crate::error::{Code, Failure};
use crate::invocation::{Caller, Permit, Stop};
use crate::triggers::http::body::RequestBody;
use crate::triggers::http::handler::HttpHandler;
use crate::triggers::http::response_body::ResponseBody;

/// How often the record of a job is read while nobody says that it has changed.
const POLL: Duration = Duration::from_secs(2);

/// How long clients are asked to wait before a retry when no worker takes their requests.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Hands the requests to a component over to workers.
pub(crate) struct Dispatcher {
    handler: Arc<HttpHandler>,
    jobs: Arc<Jobs>,
}

impl Dispatcher {
    pub(crate) fn new(handler: Arc<HttpHandler>, jobs: Arc<Jobs>) -> Self {
        Self { handler, jobs }
    }

    /// Returns the id of the component.
    pub(crate) fn id(&self) -> &Arc<str> {
        self.handler.id()
    }

    /// Has a worker handle a request. Dropping the future cancels that.
    ///
    /// Requests wait here for their turn, not in JetStream, which knows no clients: a permit is for one that no worker has taken yet.
    pub(crate) async fn handle(
        &self,
        caller: Caller,
        mut request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, Failure> {
        let permits = self.handler.admit(caller, &mut request).await?;
        let (target, jobs) = (self.handler.target(), &self.jobs);
        let (mut head, body) = request.into_parts();
        telemetry::trace::inject(&Span::current(), &mut head.headers);
        let request = jobs::Request {
            method: head.method.to_string(),
            uri: head.uri.to_string(),
            headers: headers_to_keep(&head.headers),
            has_body: !body.is_empty(),
        };
        let id = Uuid::now_v7();
        let changes = jobs.changes(id).await;
        let changes = changes.map_err(|error| unavailable(&error))?;
        let waiting = Waiting {
            jobs: Arc::clone(jobs),
            id,
            abandoned: CancellationToken::new(),
        };
        let submission = Submission {
            jobs: Arc::clone(jobs),
            target: Arc::clone(target),
            id,
            record: Record::new(&target.id, Priority::High, request),
            digest: None,
            abandoned: waiting.abandoned.clone(),
        };
        submission.run(body).await?;
        self.response(&waiting, changes, permits).await
    }

    /// Waits for the response. Releases the permits when a worker has taken the request.
    async fn response(
        &self,
        waiting: &Waiting,
        mut changes: Changes,
        permits: [Permit; 2],
    ) -> Result<Response<ResponseBody>, Failure> {
        let mut permits = Some(permits);
        let (jobs, id) = (&self.jobs, waiting.id);
        let limits = &self.handler.target().limits;
        let config = jobs.config();
        // Each of the workers that end while they run it is noticed after a while.
        let longest =
            limits.queue_timeout + (limits.timeout + config.ack_wait) * config.attempts.max(1);
        let started = Instant::now();
        loop {
            let _ = tokio::time::timeout(POLL, changes.next()).await;
            let found = jobs.get(id).await.map_err(|error| unavailable(&error))?;
            let Some((record, _)) = found else {
                return Err(Failure::new(
                    Code::Internal,
                    "the request was lost; send it again".into(),
                ));
            };
            let waited = started.elapsed();
            match &record.state {
                State::Done(response) | State::Failed(response) => {
                    let long = match response.body {
                        Some(_) => None,
                        None => {
                            let long = jobs.long_response(id).await;
                            long.map_err(|error| unavailable(&error))?
                        }
                    };
                    return Ok(to_http(response, long));
                }
                State::Queued if waited > limits.queue_timeout => {
                    return Err(Failure::new(
                        Code::Overloaded,
                        format!(
                            "no worker has taken the request within {}; try again shortly",
                            humantime::format_duration(limits.queue_timeout)
                        ),
                    )
                    .retry_after(RETRY_AFTER));
                }
                State::Running { .. } if waited > longest => {
                    return Err(self.handler.target().failure(Stop::Timeout));
                }
                State::Cancelled => {
                    return Err(Failure::new(
                        Code::Overloaded,
                        "the request was cancelled by the operator; send it again".into(),
                    ));
                }
                State::Queued => {}
                State::Running { .. } => drop(permits.take()),
            }
        }
    }
}

/// A client that waits for the response to a job. When it is dropped, nobody wants the job any more, whether it has ended or not.
struct Waiting {
    jobs: Arc<Jobs>,
    id: Uuid,
    abandoned: CancellationToken,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.abandoned.cancel();
        let (jobs, id) = (Arc::clone(&self.jobs), self.id);
        tokio::spawn(async move {
            if let Err(error) = jobs.remove(id).await {
                tracing::warn!(job = %id, %error, "a request that was handed over stays in JetStream until it expires");
            }
        });
    }
}
