//! Callbacks: a request to an address of the client's choice when its job has ended, signed as Standard Webhooks has it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::StatusCode;
use queue::jobs::{Delivery, Error, Jobs, Record};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::view::{View, status};
use crate::triggers::http::handler::HttpHandler;
use crate::webhooks::Webhooks;

/// Callbacks of a component that are sent at once.
const MAX_AT_ONCE: usize = 16;
/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Time between attempts, as Standard Webhooks recommends. After the last one, the callback is given up.
const DELAYS: [Duration; 9] = {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    [
        Duration::from_secs(5),
        Duration::from_secs(5 * MINUTE),
        Duration::from_secs(30 * MINUTE),
        Duration::from_secs(2 * HOUR),
        Duration::from_secs(5 * HOUR),
        Duration::from_secs(10 * HOUR),
        Duration::from_secs(14 * HOUR),
        Duration::from_secs(20 * HOUR),
        Duration::from_secs(24 * HOUR),
    ]
};

/// Sends the callbacks that are due.
pub(super) async fn take(
    jobs: &Arc<Jobs>,
    handler: &Arc<HttpHandler>,
    webhooks: &Arc<Webhooks>,
) -> Result<(), Error> {
    let worker = jobs.callbacks(handler.id()).await?;
    let free = Arc::new(Semaphore::new(MAX_AT_ONCE));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return Ok(());
        };
        let Some(delivery) = worker.next().await? else {
            continue;
        };
        let callback = Callback {
            jobs: Arc::clone(jobs),
            handler: Arc::clone(handler),
            webhooks: Arc::clone(webhooks),
            delivery,
        };
        tokio::spawn(async move {
            if let Err(error) = callback.send().await {
                // It is delivered again.
                tracing::warn!(%error, "a callback is left to another worker");
            }
            drop(permit);
        });
    }
}

/// A callback that is due.
struct Callback {
    jobs: Arc<Jobs>,
    handler: Arc<HttpHandler>,
    webhooks: Arc<Webhooks>,
    delivery: Delivery,
}

impl Callback {
    async fn send(self) -> Result<(), Error> {
        let found = match self.delivery.id() {
            Some(id) => self.jobs.get(id).await?.map(|(record, _)| (id, record)),
            None => None,
        };
        let Some((id, record)) = found else {
            tracing::warn!("a callback is given up: its job was removed or has expired");
            return self.delivery.end().await;
        };
        let Some(url) = &record.callback_url else {
            return self.delivery.end().await;
        };
        let attempt = self.delivery.number();
        let why = match self.attempt(url, id, &record).await {
            Ok(status) if status.is_success() => {
                tracing::info!(job = %id, attempt, "called back");
                return self.delivery.end().await;
            }
            // The client wants no more of them.
            Ok(StatusCode::GONE) => {
                tracing::warn!(job = %id, attempt, "a callback is given up: the answer was 410");
                return self.delivery.end().await;
            }
            Ok(status) => format!("the answer was {status}"),
            Err(error) => format!("{error:#}"),
        };
        match DELAYS.get(attempt.saturating_sub(1) as usize) {
            Some(&delay) => {
                let delay_s = delay.as_secs();
                tracing::warn!(job = %id, attempt, error = why, delay_s, "a callback failed; trying again later");
                self.delivery.hand_back(delay).await
            }
            None => {
                tracing::error!(job = %id, attempt, error = why, "a callback is given up");
                self.delivery.end().await
            }
        }
    }

    async fn attempt(&self, url: &str, id: Uuid, record: &Record) -> anyhow::Result<StatusCode> {
        let event = format!("job.{}", status(&record.state));
        let data = View::new(id, record, None);
        let request = self.webhooks.request(url, &id.to_string(), event, data)?;
        // Its manifest may have changed since.
        let servers = self.handler.servers();
        let servers = servers.filter(|servers| servers.allows(request.uri()));
        let servers =
            servers.context("the address is not in the component's allowed_outbound_hosts")?;
        servers.send(request, TIMEOUT).await
    }
}
