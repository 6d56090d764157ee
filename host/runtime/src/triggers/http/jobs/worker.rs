//! A worker: takes jobs of a component when there is room for one, and runs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, Stream, TryStreamExt as _};
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use queue::jobs::{self, Delivery, Error, Jobs, Priority, Record, Revision, State};
use tokio::time::MissedTickBehavior;
use tokio_retry::RetryIf;
use tokio_retry::strategy::FixedInterval;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::callback;
use super::metrics::Gauges;
use super::response::{error, read};
use crate::invocation::{Caller, Invocation, Permit, RequestIds};
use crate::triggers::arrival;
use crate::triggers::http::body::RequestBody;
use crate::triggers::http::handler::HttpHandler;
use crate::triggers::http::response::to_response;
use crate::webhooks::Webhooks;

/// Time before another attempt: doubled with each.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Time before JetStream is asked again after an error.
const ERROR_DELAY: Duration = Duration::from_secs(2);
/// How often it is asked again for the end of a job.
const MAX_TRIES: usize = 150;
/// How often the record of a running job is updated, and a cancellation is noticed.
const UPDATE: Duration = Duration::from_secs(1);
/// Minimum time between two signs of life.
const MIN_SILENCE: Duration = Duration::from_millis(50);
/// How often the jobs are counted.
const MEASURE: Duration = Duration::from_secs(5);
/// How long a job waits here for permits that others took in the meantime. Then it goes back to the queue, where another worker may
/// take it.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// How often a worker looks whether the models have room again.
const ROOM: Duration = Duration::from_millis(20);

/// The worker of a component.
pub(crate) struct Worker {
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) handler: Arc<HttpHandler>,
    pub(crate) webhooks: Option<Arc<Webhooks>>,
}

impl Worker {
    /// Counts the jobs until `stop` is cancelled, and runs them if `runs`.
    pub(crate) async fn serve(self: Arc<Self>, runs: bool, stop: CancellationToken) {
        let working = async {
            if runs {
                let calling_back = async {
                    if let Some(webhooks) = &self.webhooks {
                        let take = || callback::take(&self.jobs, &self.handler, webhooks);
                        self.repeat("callbacks", take).await;
                    }
                };
                tokio::join!(
                    self.repeat("requests", || self.take(Priority::High)),
                    self.repeat("jobs", || self.take(Priority::Low)),
                    calling_back
                );
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = working => {}
            () = self.measure() => {}
            () = stop.cancelled() => {}
        }
    }

    /// Takes something from JetStream, and starts again after each error. Runs for ever.
    async fn repeat<F>(&self, what: &str, take: impl Fn() -> F)
    where
        F: Future<Output = Result<(), Error>>,
    {
        let component = &**self.handler.id();
        let mut failing_since: Option<Instant> = None;
        loop {
            let started = Instant::now();
            let taken = take().await;
            if failing_since.is_some() && started.elapsed() > ERROR_DELAY {
                failing_since = None;
                tracing::info!(component, what, "JetStream was available again");
            }
            if let Err(error) = taken
                && failing_since.replace(started).is_none()
            {
                tracing::warn!(component, what, %error, "nothing can be taken from JetStream; trying again until it can");
            }
            tokio::time::sleep(ERROR_DELAY).await;
        }
    }

    /// Measures how many jobs have not ended, from time to time. Runs for ever.
    async fn measure(&self) {
        let component = &**self.handler.id();
        let gauges = Gauges::new(component);
        let mut ticks = tokio::time::interval(MEASURE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.jobs.depth(component).await {
                Ok(depth) => gauges.set(&depth),
                // That no jobs can be taken is logged elsewhere.
                Err(error) => tracing::debug!(component, %error, "the jobs cannot be counted"),
            }
        }
    }

    /// Takes jobs and starts them.
    async fn take(&self, priority: Priority) -> Result<(), Error> {
        let caller = match priority {
            Priority::High => Caller::Queue,
            Priority::Low => Caller::Jobs,
        };
        let target = self.handler.target();
        let worker = self.jobs.worker(&target.id, priority).await?;
        loop {
            // A job that waits here would not be run by a worker that has room.
            drop(target.room(caller).await);
            while !self.handler.models_have_room() {
                tokio::time::sleep(ROOM).await;
            }
            let Some(delivery) = worker.next().await? else {
                continue;
            };
            let Ok(permits) = tokio::time::timeout(MAX_WAIT, target.room(caller)).await else {
                delivery.hand_back(Duration::ZERO).await?;
                continue;
            };
            let job = Job {
                jobs: Arc::clone(&self.jobs),
                handler: Arc::clone(&self.handler),
                delivery,
            };
            let in_flight = target.track();
            tokio::spawn(async move {
                if let Err(error) = job.run(permits).await {
                    // It is delivered again when it has been silent for long enough.
                    tracing::warn!(%error, "a job is left to another worker");
                }
                drop(in_flight);
            });
        }
    }
}

/// A job that was handed to this worker.
struct Job {
    jobs: Arc<Jobs>,
    handler: Arc<HttpHandler>,
    delivery: Delivery,
}

/// How an attempt ended.
enum Ended {
    /// With a response, which another attempt would have, too.
    Response(jobs::Response),
    /// With an error, which another attempt may not have.
    Retry(jobs::Response),
    /// The host stopped, or the body could not be read: that is not the job's fault.
    Interrupted,
    /// The record was changed by somebody else: the job was cancelled, or another worker has it.
    Changed,
}

impl Job {
    async fn run(self, permits: [Permit; 2]) -> Result<(), Error> {
        let Some(id) = self.delivery.id() else {
            tracing::warn!("a message in the stream of jobs is not one; dropped");
            return self.delivery.end().await;
        };
        let Some((mut record, revision)) = self.jobs.get(id).await? else {
            tracing::info!(job = %id, "a job was removed or has expired before it was run");
            return self.delivery.end().await;
        };
        if record.state.is_final() {
            return self.finish(id, &record).await;
        }
        let delivery = self.delivery.number();
        if matches!(record.state, State::Running { .. }) && record.deliveries >= delivery {
            // This host was stopped for a while: the job has been delivered to another one since.
            return Ok(());
        }
        let attempts = self.jobs.config().attempts;
        if record.attempts >= attempts {
            let error = error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "worker_lost",
                &format!(
                    "{attempts} workers ended while they ran the job; the recording may be at fault"
                ),
            );
            return self.end(id, record, State::Failed(error), revision).await;
        }
        record.attempts += 1;
        record.deliveries = delivery;
        record.state = State::Running { progress: 0.0 };
        let revision = match self.jobs.update(id, &mut record, revision).await {
            Err(Error::Conflict) => return self.leave(id).await,
            revision => revision?,
        };
        self.tell_change(id, &record).await?;
        let started = Instant::now();
        let ids = RequestIds::new();
        let span = tracing::trace_span!(
            target: telemetry::SPANS,
            "job",
            otel.name = format!("process job {}", self.handler.id()),
            otel.kind = "consumer",
            otel.status_code = Empty,
            messaging.system = "nats",
            messaging.operation.name = "process",
            messaging.message.id = %id,
            request_id = %ids.request,
        );
        let running = Running {
            job: &self,
            id,
            ids,
            record,
            revision,
            span: span.clone(),
        };
        let (ended, record, revision) = running.run(permits).instrument(span).await?;
        // A client that waits decides itself whether to try again.
        let is_last = record.attempts >= attempts || record.priority == Priority::High;
        let ended = match ended {
            Ended::Retry(response) if is_last => Ended::Response(response),
            ended => ended,
        };
        let outcome = match &ended {
            Ended::Response(response) if is_success(response) => "done",
            Ended::Response(_) => "failed",
            Ended::Retry(_) => "attempt failed",
            Ended::Interrupted => "handed back",
            Ended::Changed => "cancelled",
        };
        tracing::info!(
            job = %id,
            outcome,
            attempt = record.attempts,
            duration_ms = started.elapsed().as_secs_f64() * 1e3,
            component = &**self.handler.id(),
            request_id = %ids.request,
            trace_id = %ids.trace,
            "job"
        );
        match ended {
            Ended::Response(response) => {
                let state = match is_success(&response) {
                    true => State::Done(response),
                    false => State::Failed(response),
                };
                self.end(id, record, state, revision).await
            }
            Ended::Retry(_) => {
                let delay = FIRST_DELAY * 2u32.saturating_pow(record.attempts.saturating_sub(1));
                self.hand_back(id, record, revision, delay.min(MAX_DELAY))
                    .await
            }
            Ended::Interrupted => {
                let record = Record {
                    attempts: record.attempts - 1,
                    ..record
                };
                self.hand_back(id, record, revision, Duration::ZERO).await
            }
            Ended::Changed => self.leave(id).await,
        }
    }

    /// Tells whoever waits for the job that a worker has taken it, or that it has ended.
    async fn tell_change(&self, id: Uuid, record: &Record) -> Result<(), Error> {
        match record.priority {
            Priority::High => self.jobs.tell_change(id).await,
            Priority::Low => Ok(()),
        }
    }

    /// Leaves a job whose record was changed by somebody else.
    async fn leave(&self, id: Uuid) -> Result<(), Error> {
        match self.jobs.get(id).await? {
            // Another worker has it: handing it back would take it from that one.
            Some((record, _)) if !record.state.is_final() => Ok(()),
            _ => self.delivery.end().await,
        }
    }

    async fn hand_back(
        &self,
        id: Uuid,
        mut record: Record,
        revision: Revision,
        delay: Duration,
    ) -> Result<(), Error> {
        record.state = State::Queued;
        match self.jobs.update(id, &mut record, revision).await {
            Ok(_) => self.delivery.hand_back(delay).await,
            Err(Error::Conflict) => self.leave(id).await,
            Err(error) => Err(error),
        }
    }

    /// Ends a job. While JetStream is not available, tries again, so that the work is not lost.
    async fn end(
        &self,
        id: Uuid,
        mut record: Record,
        state: State,
        revision: Revision,
    ) -> Result<(), Error> {
        record.state = state;
        let delays = FixedInterval::new(ERROR_DELAY).take(MAX_TRIES);
        let update = || {
            let mut record = record.clone();
            async move {
                let updated = self.jobs.update(id, &mut record, revision).await;
                updated.map(|_| record)
            }
        };
        let is_passing = |error: &Error| matches!(error, Error::Unavailable(_));
        match RetryIf::start(delays, update, is_passing).await {
            Ok(record) => self.finish(id, &record).await,
            // It was cancelled in the last moment, or another worker has it.
            Err(Error::Conflict) => self.leave(id).await,
            Err(error) => Err(error),
        }
    }

    /// Does what is left when the record says that the job has ended. If this worker ends in between, another one does it.
    async fn finish(&self, id: Uuid, record: &Record) -> Result<(), Error> {
        self.tell_change(id, record).await?;
        if record.priority == Priority::Low && matches!(record.state, State::Failed(_)) {
            self.jobs.keep_failed(id, record).await?;
        }
        if record.callback_url.is_some() && record.state.response().is_some() {
            self.jobs.call_back(id, &record.component).await?;
        }
        self.jobs.remove_body(id).await?;
        self.delivery.end().await
    }
}

fn is_success(response: &jobs::Response) -> bool {
    (200..300).contains(&response.status)
}

/// An attempt.
struct Running<'a> {
    job: &'a Job,
    id: Uuid,
    ids: RequestIds,
    record: Record,
    revision: Revision,
    span: Span,
}

impl Running<'_> {
    /// Runs the job. Returns how that ended, and its record with its revision.
    async fn run(mut self, permits: [Permit; 2]) -> Result<(Ended, Record, Revision), Error> {
        let target = Arc::clone(self.job.handler.target());
        let is_unread = Arc::new(AtomicBool::new(false));
        let request = match self.request(&is_unread).await? {
            Ok(request) => request,
            Err(response) => return Ok((Ended::Response(response), self.record, self.revision)),
        };
        target.count_admitted();
        let invocation = Invocation::begin(&target, self.ids, permits);
        let progress = invocation.progress();
        let mut answering = std::pin::pin!(answer(&self.job.handler, invocation, request));
        let silence = (self.job.jobs.config().ack_wait / 3).max(MIN_SILENCE);
        let update = UPDATE.min(silence);
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + update, update);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_sign = Instant::now();
        let ended = loop {
            tokio::select! {
                ended = &mut answering => break ended,
                () = target.host_stopped() => break Ended::Interrupted,
                _ = ticks.tick() => {}
            }
            if last_sign.elapsed() >= silence.min(UPDATE * 5) / 2 {
                last_sign = Instant::now();
                if let Err(error) = self.job.delivery.progress().await {
                    tracing::debug!(job = %self.id, %error, "no sign of life was sent");
                }
            }
            match self.update(progress.seconds()).await {
                Ok(true) => {}
                Ok(false) => break Ended::Changed,
                // If another worker gets the job meanwhile, that shows later.
                Err(error) => tracing::debug!(job = %self.id, %error, "the job was not updated"),
            }
        };
        let ended = match ended {
            Ended::Response(_) | Ended::Retry(_) if is_unread.load(Ordering::Relaxed) => {
                tracing::warn!(job = %self.id, "the body of a job could not be read; handing it back");
                Ended::Interrupted
            }
            ended => ended,
        };
        Ok((ended, self.record, self.revision))
    }

    /// Returns the request of the job, or the response if it cannot be made. Sets `is_unread` when the body cannot be read.
    async fn request(
        &mut self,
        is_unread: &Arc<AtomicBool>,
    ) -> Result<Result<Request<RequestBody>, jobs::Response>, Error> {
        let kept = &self.record.request;
        let body = match kept.has_body {
            false => RequestBody::empty(),
            true => match self.job.jobs.body(self.id).await? {
                Some(body) => RequestBody::new(StreamBody::new(frames(body, is_unread))),
                None => {
                    return Ok(Err(error(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "expired",
                        "the recording has expired before the job was run",
                    )));
                }
            },
        };
        let mut headers: HeaderMap = queue::http_headers(&kept.headers);
        if let Some(trace) = telemetry::trace::accept(&self.span, &headers) {
            self.ids.trace = trace;
        }
        if self.record.priority == Priority::Low
            && let Some(now) = arrival::now().and_then(|now| now.try_into().ok())
        {
            headers.insert(arrival::HEADER, now);
        }
        let request = Request::builder()
            .method(kept.method.as_str())
            .uri(kept.uri.as_str());
        Ok(match request.body(body) {
            Ok(mut request) => {
                *request.headers_mut() = headers;
                Ok(request)
            }
            Err(why) => Err(error(
                StatusCode::BAD_REQUEST,
                "bad_request",
                &format!("the job's request is malformed: {why}"),
            )),
        })
    }

    /// Updates the record, if the job is still this worker's. Returns whether it is.
    async fn update(&mut self, seconds: f64) -> Result<bool, Error> {
        let state = State::Running { progress: seconds };
        let before = std::mem::replace(&mut self.record.state, state);
        let jobs = &self.job.jobs;
        if matches!(before, State::Running { progress } if progress == seconds) {
            let current = jobs.get(self.id).await?;
            return Ok(current.is_some_and(|(_, revision)| revision == self.revision));
        }
        match jobs.update(self.id, &mut self.record, self.revision).await {
            Ok(revision) => {
                self.revision = revision;
                Ok(true)
            }
            Err(Error::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Returns the frames of a body. Sets `is_unread` when it cannot be read.
fn frames(
    body: jobs::Body,
    is_unread: &Arc<AtomicBool>,
) -> impl Stream<Item = Result<Frame<Bytes>, Error>> + Send + 'static {
    let is_unread = Arc::clone(is_unread);
    let pieces = stream::try_unfold(body, async |mut body| {
        let piece = body.next().await?;
        Ok(piece.map(|piece| (Frame::data(piece), body)))
    });
    pieces.inspect_err(move |error| {
        tracing::warn!(%error, "the body of a job cannot be read");
        is_unread.store(true, Ordering::Relaxed);
    })
}

/// Has the component handle the request, and reads its response.
async fn answer(
    handler: &HttpHandler,
    invocation: Arc<Invocation>,
    request: Request<RequestBody>,
) -> Ended {
    let response = handler.run(invocation, request).await;
    let response = read(response.unwrap_or_else(|failure| to_response(&failure))).await;
    let may_pass = match StatusCode::from_u16(response.status) {
        Ok(StatusCode::NOT_IMPLEMENTED) => false,
        Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) => true,
        Ok(status) => status.is_server_error(),
        Err(_) => false,
    };
    match may_pass {
        true => Ended::Retry(response),
        false => Ended::Response(response),
    }
}
