//! A worker: takes jobs of a component when there is room for one, and runs them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use queue::jobs::{Delivery, Error, Jobs, Record, Revision, State};
use serde_json::value::RawValue;
use tokio::time::MissedTickBehavior;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::headers::restored;
use super::metrics::Gauges;
use crate::error::Failure;
use crate::invocation::{Invocation, Permit, RequestIds};
use crate::triggers::arrival;
use crate::triggers::http::body::RequestBody;
use crate::triggers::http::handler::HttpHandler;

/// Time before another attempt: doubled with each.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Time before JetStream is asked again after an error.
const ERROR_DELAY: Duration = Duration::from_secs(2);
/// How often the record of a running job is updated, and a cancellation is noticed.
const UPDATE: Duration = Duration::from_secs(1);
/// How often the jobs are counted.
const MEASURE: Duration = Duration::from_secs(5);
/// Maximum size of a result, in bytes.
const MAX_RESULT: usize = 64 << 20;

/// Runs jobs until `stop` is cancelled.
pub(super) async fn serve(jobs: Arc<Jobs>, handler: Arc<HttpHandler>, stop: CancellationToken) {
    let working = async {
        let mut failing = false;
        loop {
            let taken = take(&jobs, &handler, &mut failing).await;
            if let Err(error) = taken {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(component = &**handler.id(), %error, "no jobs can be taken; trying again until they can");
                }
                tokio::time::sleep(ERROR_DELAY).await;
            }
        }
    };
    tokio::select! {
        () = working => {}
        () = measure(&jobs, handler.id()) => {}
        () = stop.cancelled() => {}
    }
}

/// Measures how many jobs of a component have not ended, from time to time. Runs for ever.
async fn measure(jobs: &Jobs, component: &str) {
    let gauges = Gauges::new(component);
    let mut ticks = tokio::time::interval(MEASURE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match jobs.depth(component).await {
            Ok(depth) => gauges.set(&depth),
            // That no jobs can be taken is logged elsewhere.
            Err(error) => tracing::debug!(component, %error, "the jobs cannot be counted"),
        }
    }
}

/// Takes jobs and starts them.
async fn take(
    jobs: &Arc<Jobs>,
    handler: &Arc<HttpHandler>,
    failing: &mut bool,
) -> Result<(), Error> {
    let target = handler.target();
    let worker = jobs.worker(&target.id).await?;
    if std::mem::take(failing) {
        tracing::info!(component = &*target.id, "jobs can be taken again");
    }
    loop {
        // A job that waits here would not be run by a worker that has room.
        drop(target.room().await);
        let Some(delivery) = worker.next().await? else {
            continue;
        };
        let permits = target.room().await;
        let job = Job {
            jobs: Arc::clone(jobs),
            handler: Arc::clone(handler),
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

/// A job that was handed to this worker.
struct Job {
    jobs: Arc<Jobs>,
    handler: Arc<HttpHandler>,
    delivery: Delivery,
}

/// How an attempt ended.
enum Ended {
    /// With the JSON of a successful response.
    Done(Box<RawValue>),
    /// With an error, which another attempt would have, too.
    Failed(Box<RawValue>),
    /// With an error, which another attempt may not have.
    Retry(Box<RawValue>),
    /// The host stopped.
    Stopped,
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
            tracing::warn!(job = %id, "a job has expired before it was run");
            return self.delivery.end().await;
        };
        if record.state.is_final() {
            return self.delivery.end().await;
        }
        let attempts = self.jobs.config().attempts;
        if record.attempts >= attempts {
            let error = error(
                "worker_lost",
                &format!(
                    "{attempts} workers ended while they ran the job; the recording may be at fault"
                ),
            );
            return self.fail(id, record, error, revision).await;
        }
        record.attempts += 1;
        record.state = State::Running { progress: 0.0 };
        let revision = match self.jobs.update(id, &record, revision).await {
            // The next delivery sees what it has become.
            Err(Error::Conflict) => return self.delivery.hand_back(Duration::ZERO).await,
            revision => revision?,
        };
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
        let outcome = match &ended {
            Ended::Done(_) => "done",
            Ended::Failed(_) => "failed",
            Ended::Retry(_) => "attempt failed",
            Ended::Stopped => "handed back",
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
            Ended::Done(result) => {
                match self.jobs.succeed(id, record, result, revision).await {
                    // It was cancelled in the last moment, or another worker was faster.
                    Ok(_) | Err(Error::Conflict) => {}
                    Err(error) => return Err(error),
                }
                self.jobs.remove_body(id).await?;
                self.delivery.end().await
            }
            Ended::Failed(error) => self.fail(id, record, error, revision).await,
            Ended::Retry(error) if record.attempts >= attempts => {
                self.fail(id, record, error, revision).await
            }
            Ended::Retry(_) => {
                let delay = FIRST_DELAY * 2u32.saturating_pow(record.attempts.saturating_sub(1));
                self.hand_back(id, record, revision, delay.min(MAX_DELAY))
                    .await
            }
            Ended::Stopped => {
                let record = Record {
                    attempts: record.attempts - 1,
                    ..record
                };
                self.hand_back(id, record, revision, Duration::ZERO).await
            }
            // If it was cancelled, the next delivery finds that out.
            Ended::Changed => self.delivery.hand_back(Duration::ZERO).await,
        }
    }

    async fn hand_back(
        &self,
        id: Uuid,
        record: Record,
        revision: Revision,
        delay: Duration,
    ) -> Result<(), Error> {
        let record = Record {
            state: State::Queued,
            ..record
        };
        match self.jobs.update(id, &record, revision).await {
            Ok(_) | Err(Error::Conflict) => self.delivery.hand_back(delay).await,
            Err(error) => Err(error),
        }
    }

    /// Ends a job that failed.
    async fn fail(
        &self,
        id: Uuid,
        record: Record,
        error: Box<RawValue>,
        revision: Revision,
    ) -> Result<(), Error> {
        let record = Record {
            state: State::Failed { error },
            ..record
        };
        // First, so that it is kept even if this process ends in between. The server drops it the second time.
        self.jobs.keep_failed(id, &record).await?;
        match self.jobs.update(id, &record, revision).await {
            Ok(_) | Err(Error::Conflict) => {}
            Err(error) => return Err(error),
        }
        self.jobs.remove_body(id).await?;
        self.delivery.end().await
    }
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
        let Some(body) = self.job.jobs.body(self.id).await? else {
            let error = error(
                "expired",
                "the recording has expired before the job was run",
            );
            return Ok((Ended::Failed(error), self.record, self.revision));
        };
        let mut headers = restored(&self.record.request.headers);
        if let Some(trace) = telemetry::trace::accept(&self.span, &headers) {
            self.ids.trace = trace;
        }
        if let Some(now) = arrival::now().and_then(|now| now.try_into().ok()) {
            headers.insert(arrival::HEADER, now);
        }
        let frames =
            futures::StreamExt::map(ReaderStream::new(body), |bytes| bytes.map(Frame::data));
        let body = RequestBody::new(StreamBody::new(frames));
        let uri = format!("http://localhost{}", self.record.request.path);
        let request = Request::builder().method(Method::POST).uri(uri).body(body);
        let mut request = match request {
            Ok(request) => request,
            Err(why) => {
                let error = error(
                    "bad_request",
                    &format!("the job's path is malformed: {why}"),
                );
                return Ok((Ended::Failed(error), self.record, self.revision));
            }
        };
        *request.headers_mut() = headers;
        let invocation = Invocation::begin(&target, self.ids, permits);
        let progress = invocation.progress();
        let mut answering = std::pin::pin!(answer(&self.job.handler, invocation, request));
        let mut ticks = tokio::time::interval(UPDATE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let silence = self.job.jobs.config().ack_wait / 3;
        let mut last_sign = Instant::now();
        let ended = loop {
            tokio::select! {
                ended = &mut answering => break ended,
                () = target.host_stopped() => break Ended::Stopped,
                _ = ticks.tick() => {}
            }
            if last_sign.elapsed() >= silence.min(UPDATE * 5) {
                last_sign = Instant::now();
                self.job.delivery.progress().await?;
            }
            if !self.update(progress.seconds()).await? {
                break Ended::Changed;
            }
        };
        Ok((ended, self.record, self.revision))
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
        match jobs.update(self.id, &self.record, self.revision).await {
            Ok(revision) => {
                self.revision = revision;
                Ok(true)
            }
            Err(Error::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Has the component handle the request, and reads its response.
async fn answer(
    handler: &HttpHandler,
    invocation: Arc<Invocation>,
    request: Request<RequestBody>,
) -> Ended {
    let response = match handler.run(invocation, request).await {
        Ok(response) => response,
        Err(failure) => return Ended::Retry(error_of(&failure)),
    };
    let status = response.status();
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Ended::Retry(error(
                "component_trap",
                "the component's response is incomplete",
            ));
        };
        bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
        if bytes.len() > MAX_RESULT {
            return Ended::Failed(error("result_too_large", "the result has more than 64 MiB"));
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let json = RawValue::from_string(text.clone()).unwrap_or_else(|_| to_json(&text));
    if status.is_success() {
        return Ended::Done(json);
    }
    let error = member(&json, "error").unwrap_or(json);
    let may_pass = status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        );
    match may_pass {
        true => Ended::Retry(error),
        false => Ended::Failed(error),
    }
}

/// Returns a member of a JSON object.
fn member(json: &RawValue, name: &str) -> Option<Box<RawValue>> {
    let mut members: std::collections::HashMap<String, Box<RawValue>> =
        serde_json::from_str(json.get()).ok()?;
    members.remove(name)
}

fn to_json(value: impl serde::Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(&value).expect("strings and maps always have a JSON form")
}

fn error(code: &str, message: &str) -> Box<RawValue> {
    to_json(serde_json::json!({"code": code, "message": message}))
}

fn error_of(failure: &Failure) -> Box<RawValue> {
    error(failure.code.parts().0, &failure.message)
}
