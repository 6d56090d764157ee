//! The delivery of points from the spool to the server, in the order in which they were written.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use tokio::sync::{Notify, RwLock};
use tokio::time::{Instant, timeout};
use tokio_retry::strategy::{ExponentialBackoff, jitter};
use tokio_util::sync::CancellationToken;

use super::api::{Api, Failure};
use super::config::Config;
use super::line;
use super::metrics::Metrics;
use crate::Error;
use crate::point::now;
use crate::sqlite::{Batch, Fill, Row, Spool};

/// Maximum number of points in a request, which InfluxDB's documentation recommends.
const BATCH: usize = 5_000;

/// How long points wait for others, to be delivered together.
const LINGER: Duration = Duration::from_secs(1);

/// Waits between attempts, doubled from the first to the last.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// Number of points that are refused one after the other without a wait.
const MAX_REFUSED_IN_A_ROW: u32 = 100;
/// Wait after each further one: the operator has time to find out why the server refuses everything.
const REFUSED_WAIT: Duration = Duration::from_secs(1);
/// Maximum wait that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Maximum time for finding or creating the bucket when the store is opened.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time of the last deliveries when the store is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the limits of the spool are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Number of points that are dropped at once from a spool that is too large.
const DROPPED_AT_ONCE: usize = 1_000;
/// Share of a limit from which on it is warned of.
const WARN_AT: f64 = 0.8;

/// What the task that delivers shares with queries.
pub(super) struct Shared {
    pub config: Arc<Config>,
    /// Written while points are between the spool and the server, and read by queries.
    pub delivery: RwLock<Delivery>,
    pub api: Arc<Api>,
    pub metrics: Metrics,
    /// Notified of points in the spool.
    pub written: Notify,
}

/// The state of the delivery.
pub(super) struct Delivery {
    config: Arc<Config>,
    api: Arc<Api>,
    spool: Arc<Spool>,
    metrics: Metrics,
    /// Whether the bucket was found or created.
    is_prepared: bool,
    /// Maximum number of points in the next request.
    limit: usize,
    /// Maximum of `limit`: the server refuses larger requests.
    ceiling: usize,
    /// The last row that may or may not be on the server.
    unsettled: Option<Row>,
    /// Points refused since the last one that was delivered.
    refused_in_a_row: u32,
    checked: Option<Instant>,
    is_warned: bool,
}

/// What an attempt has done.
pub(super) enum Step {
    /// There was nothing to deliver.
    Idle,
    /// Points were delivered or refused, or the next request will be smaller.
    Progress,
    /// A point was refused, as were many before it: it may not be for the points.
    Refused,
}

/// Why an attempt must be repeated.
pub(super) enum Retry {
    Server(Failure),
    Spool(Error),
}

impl Delivery {
    pub async fn new(
        config: Arc<Config>,
        api: Arc<Api>,
        spool: Arc<Spool>,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        // Another process may have ended while it delivered.
        let unsettled = spool.oldest(BATCH).await?.last();
        metrics.written(spool.count().await?);
        Ok(Self {
            config,
            api,
            spool,
            metrics,
            is_prepared: false,
            limit: BATCH,
            ceiling: BATCH,
            unsettled,
            refused_in_a_row: 0,
            checked: None,
            is_warned: false,
        })
    }

    /// Finds or creates the bucket, unless the server cannot be reached: points then wait for it.
    ///
    /// # Errors
    /// When the server refuses it, with what to do.
    pub async fn prepare_if_reachable(&mut self) -> Result<(), Error> {
        let prepared = timeout(OPEN_TIMEOUT, self.prepare()).await;
        let prepared = prepared.unwrap_or_else(|_| {
            let seconds = OPEN_TIMEOUT.as_secs();
            Err(Failure::NoAnswer(format!("no answer within {seconds} s")))
        });
        match prepared {
            Ok(()) => Ok(()),
            Err(failure) if is_outage(&failure) => {
                let reason = failure.explain(&self.config.location);
                tracing::warn!(
                    reason,
                    "InfluxDB cannot be used yet; points wait in the spool"
                );
                Ok(())
            }
            Err(failure) => Err(Error::Unavailable(failure.explain(&self.config.location))),
        }
    }

    async fn prepare(&mut self) -> Result<(), Failure> {
        if self.is_prepared {
            return Ok(());
        }
        self.api.check_health().await?;
        if !self.api.has_bucket().await? {
            self.api.create_bucket(self.config.retention).await?;
            tracing::info!(bucket = %self.config.location, "created the bucket");
        }
        self.is_prepared = true;
        Ok(())
    }

    /// Delivers the oldest points.
    pub async fn step(&mut self) -> Result<Step, Retry> {
        let batch = self.spool.oldest(self.limit).await?;
        let Some(last) = batch.last() else {
            self.unsettled = None;
            return Ok(Step::Idle);
        };
        self.prepare().await?;
        let mut lines = Vec::new();
        for (point, _) in &batch.points {
            line::write(&mut lines, point);
        }
        let count = batch.points.len();
        // Before the request: this future may be dropped before there is an answer.
        let before = self
            .unsettled
            .replace(self.unsettled.map_or(last, |row| row.max(last)));
        match self.api.write(&lines).await {
            Ok(()) => {
                self.spool.remove(last).await?;
                self.metrics.delivered(count as u64);
                self.limit = (self.limit * 2).min(self.ceiling);
                self.refused_in_a_row = 0;
            }
            // Any server on the way may limit the size of requests.
            Err(Failure::Status {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                ..
            }) if count > 1 => {
                self.limit = count.div_ceil(2);
                self.ceiling = self.limit;
                return Ok(Step::Progress);
            }
            // Only InfluxDB itself knows which points it will never take.
            Err(Failure::Status {
                status:
                    status @ (StatusCode::BAD_REQUEST
                    | StatusCode::PAYLOAD_TOO_LARGE
                    | StatusCode::UNPROCESSABLE_ENTITY),
                message,
                is_own: true,
                ..
            }) => {
                if count > 1 {
                    // Smaller requests show which points are refused.
                    self.limit = count.div_ceil(2);
                    return Ok(Step::Progress);
                }
                let line = String::from_utf8_lossy(&lines).trim_end().to_owned();
                tracing::error!(
                    line,
                    reason = message,
                    "InfluxDB refuses a point; it is kept in the table dead_letter of the spool"
                );
                self.spool
                    .refuse(last, line, format!("{status}: {message}"))
                    .await?;
                self.metrics.refused(1);
                self.limit = (self.limit * 2).min(self.ceiling);
                self.refused_in_a_row += 1;
            }
            Err(failure) => {
                if !may_have_arrived(&failure) {
                    self.unsettled = before;
                }
                return Err(failure.into());
            }
        }
        if self.unsettled.is_some_and(|row| row <= last) {
            self.unsettled = None;
        }
        match self.refused_in_a_row > MAX_REFUSED_IN_A_ROW {
            true => Ok(Step::Refused),
            false => Ok(Step::Progress),
        }
    }

    /// Whether no delivery may or may not have arrived.
    pub fn is_settled(&self) -> bool {
        self.unsettled.is_none()
    }

    /// Repeats deliveries that may or may not have arrived.
    pub async fn settle(&mut self) -> Result<(), Failure> {
        while self.unsettled.is_some() {
            match self.step().await {
                Ok(_) => {}
                Err(Retry::Server(failure)) => return Err(failure),
                Err(Retry::Spool(error)) => return Err(Failure::NoAnswer(error.to_string())),
            }
        }
        Ok(())
    }

    /// Drops the oldest points beyond the limits of the spool, and warns before.
    async fn check_limits(&mut self) -> Result<(), Error> {
        if self
            .checked
            .is_some_and(|checked| checked.elapsed() < CHECK_INTERVAL)
        {
            return Ok(());
        }
        self.checked = Some(Instant::now());
        let mut dropped = 0;
        loop {
            let now = now();
            let Fill { bytes, since } = self.spool.fill(now).await?;
            let age = since.map_or(0, |since| now.saturating_sub(since));
            let age = Duration::from_nanos(age.try_into().unwrap_or(0));
            self.metrics.spool_size.set(bytes as f64);
            self.metrics.spool_age.set(age.as_secs_f64());
            let share = (bytes as f64 / self.config.max_bytes as f64)
                .max(age.as_secs_f64() / self.config.max_age.as_secs_f64());
            if share <= 1.0 || since.is_none() {
                self.warn(share, dropped);
                return Ok(());
            }
            let count = if bytes > self.config.max_bytes {
                let batch = self.spool.oldest(DROPPED_AT_ONCE).await?;
                let Some(last) = batch.last() else {
                    return Ok(());
                };
                self.spool.remove(last).await?;
                batch.points.len() as u64
            } else {
                let max_age = i64::try_from(self.config.max_age.as_nanos()).unwrap_or(i64::MAX);
                self.spool
                    .remove_before(now.saturating_sub(max_age))
                    .await?
            };
            self.metrics.dropped(count);
            dropped += count;
        }
    }

    fn warn(&mut self, share: f64, dropped: u64) {
        if dropped > 0 {
            tracing::error!(
                points = dropped,
                "the spool for InfluxDB is full: its oldest points were dropped"
            );
        }
        let is_near = share >= WARN_AT;
        if is_near && !self.is_warned {
            tracing::warn!(
                percent = (share * 100.0).round(),
                "the spool for InfluxDB is almost full: its oldest points will be dropped"
            );
        }
        self.is_warned = is_near;
    }
}

impl Batch {
    fn last(&self) -> Option<Row> {
        self.points.last().map(|(_, row)| *row)
    }
}

/// Delivers until `stop` is cancelled, and then what can be delivered quickly.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut failing = false;
    let mut waits = waits();
    loop {
        let step = async {
            let mut delivery = shared.delivery.write().await;
            let checked = delivery.check_limits().await;
            match checked {
                Ok(()) => delivery.step().await,
                Err(error) => Err(Retry::Spool(error)),
            }
        };
        // A server may hang for longer than the host may take to stop.
        let step = tokio::select! {
            step = step => step,
            () = stop.cancelled() => break,
        };
        let wait = match step {
            Ok(step) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("delivering points to InfluxDB again");
                }
                waits = self::waits();
                match step {
                    Step::Progress => Duration::ZERO,
                    Step::Refused => REFUSED_WAIT,
                    Step::Idle => {
                        tokio::select! {
                            () = shared.written.notified() => {}
                            () = tokio::time::sleep(CHECK_INTERVAL) => continue,
                            () = stop.cancelled() => {}
                        }
                        LINGER
                    }
                }
            }
            Err(retry) => {
                failing = true;
                shared.metrics.failures.increment(1);
                let wait = waits.next().unwrap_or(LAST_WAIT);
                shared.explain(&retry, wait)
            }
        };
        tokio::select! {
            () = shared.wait(wait) => {}
            () = stop.cancelled() => break,
        }
    }
    let last = timeout(CLOSE_TIMEOUT, async {
        let mut delivery = shared.delivery.write().await;
        while let Step::Progress = delivery.step().await? {}
        Ok::<_, Retry>(())
    });
    if !matches!(last.await, Ok(Ok(()))) {
        tracing::warn!("points stay in the spool: InfluxDB gets them after the next start");
    }
}

fn waits() -> impl Iterator<Item = Duration> {
    // The base is a power, in milliseconds; the factor makes the first wait.
    ExponentialBackoff::from_millis(2)
        .factor(FIRST_WAIT.as_millis() as u64 / 2)
        .max_delay(LAST_WAIT)
        .map(|wait| wait / 2 + jitter(wait / 2))
}

impl Shared {
    /// Waits, and holds the spool to its limits meanwhile: a server may ask for minutes.
    async fn wait(&self, wait: Duration) {
        let end = Instant::now() + wait;
        while end > Instant::now() {
            tokio::time::sleep_until(end.min(Instant::now() + CHECK_INTERVAL)).await;
            // The next attempt reports an error.
            let _ = self.delivery.write().await.check_limits().await;
        }
    }

    /// Logs why an attempt is repeated, and returns how long to wait.
    fn explain(&self, retry: &Retry, wait: Duration) -> Duration {
        let (reason, asked) = match retry {
            Retry::Server(failure) => {
                let asked = match failure {
                    Failure::Status { retry_after, .. } => *retry_after,
                    Failure::NoAnswer(_) => None,
                };
                (failure.explain(&self.config.location), asked)
            }
            Retry::Spool(error) => (error.to_string(), None),
        };
        let wait = asked.map_or(wait, |asked| asked.min(MAX_RETRY_AFTER).max(wait));
        tracing::warn!(
            reason,
            again_after_s = wait.as_secs_f64(),
            "points cannot be delivered to InfluxDB; they wait in the spool"
        );
        wait
    }
}

/// Whether the server may have written something.
fn may_have_arrived(failure: &Failure) -> bool {
    match failure {
        Failure::NoAnswer(_) => true,
        // A proxy may answer for a server that has already written.
        Failure::Status { status, is_own, .. } => {
            !is_own
                || !matches!(
                    *status,
                    StatusCode::UNAUTHORIZED
                        | StatusCode::FORBIDDEN
                        | StatusCode::NOT_FOUND
                        | StatusCode::TOO_MANY_REQUESTS
                        | StatusCode::SERVICE_UNAVAILABLE
                )
        }
    }
}

/// Whether the server may do later what it has not done now, without anyone changing anything but the server.
fn is_outage(failure: &Failure) -> bool {
    match failure {
        Failure::NoAnswer(_) => true,
        Failure::Status { status, .. } => {
            status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
        }
    }
}

impl From<Failure> for Retry {
    fn from(failure: Failure) -> Self {
        Self::Server(failure)
    }
}

impl From<Error> for Retry {
    fn from(error: Error) -> Self {
        Self::Spool(error)
    }
}
