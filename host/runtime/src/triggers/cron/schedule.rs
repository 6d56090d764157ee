//! An entry `[[trigger.cron]]`: waits for the times of its schedule, and runs its component.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Zoned;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use tracing::field::Empty;

use super::config::Config;
use super::handler::RunHandler;
use crate::invocation::RequestIds;

/// How long to wait at most before looking at the clock again, which may be set meanwhile.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// An entry `[[trigger.cron]]`.
#[derive(Clone)]
pub(crate) struct Scheduled {
    config: Config,
    handler: Arc<RunHandler>,
}

impl Scheduled {
    pub(super) fn new(config: Config, handler: Arc<RunHandler>) -> Self {
        Self { config, handler }
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.handler.component().target().id
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Runs the component at each time of the schedule until `stop` is cancelled. One run at a time: times that pass during a run
    /// are skipped.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let mut next = self.config.next_after(&Zoned::now());
        while let Some(time) = next {
            tokio::select! {
                () = wait_until(&time) => {}
                () = stop.cancelled() => return,
            }
            self.run().await;
            next = self.config.next_after(&time);
            let now = Zoned::now();
            if next.as_ref().is_some_and(|next| *next < now) {
                tracing::warn!(
                    component = &**self.id(),
                    schedule = %self.config,
                    "a run was skipped: the one before it went on for too long"
                );
                next = self.config.next_after(&now);
            }
        }
        tracing::warn!(
            component = &**self.id(),
            schedule = %self.config,
            "the schedule has no time in the future"
        );
    }

    async fn run(&self) {
        let target = self.handler.component().target();
        // The host waits for it when it stops.
        let _in_flight = target.track();
        let (ids, started) = (RequestIds::new(), Instant::now());
        let span = tracing::trace_span!(
            target: telemetry::SPANS,
            "run",
            otel.name = format!("cron {}", self.id()),
            otel.status_code = Empty,
            error.type = Empty,
            faas.cron = %self.config,
            faas.trigger = "timer",
            request_id = %ids.request,
        );
        let failure = self.handler.run(ids).instrument(span.clone()).await.err();
        let error = failure.map(|failure| failure.code.parts().0);
        if let Some(error) = error {
            span.record("error.type", error);
            span.record("otel.status_code", "ERROR");
        }
        tracing::info!(
            schedule = %self.config,
            error.type = error,
            duration_ms = started.elapsed().as_secs_f64() * 1e3,
            component = &*target.id,
            request_id = %ids.request,
            trace_id = %ids.trace,
            "run"
        );
    }
}

async fn wait_until(time: &Zoned) {
    loop {
        let left = Zoned::now().duration_until(time);
        match Duration::try_from(left) {
            Ok(left) if left > Duration::ZERO => tokio::time::sleep(left.min(MAX_WAIT)).await,
            _ => return,
        }
    }
}
