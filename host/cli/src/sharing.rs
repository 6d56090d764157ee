//! Shares the calls of this host with all hosts on a NATS server: its points are added to a stream, and those of the others are read
//! from it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use queue::log::{self, Log};
use timeseries::{Incoming, Position, Rejected, Sharing, Store};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Name of the stream.
pub const STREAM: &str = "whisper-points";
/// Maximum length of a message with more than one point, in bytes. A reader keeps up to 200 messages in memory.
const MAX_MESSAGE: usize = 128 << 10;
/// Time before another attempt after an error.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// Time to send the last points when the host stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Minimum time between two warnings of invalid messages. Anybody may send any number of them.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum length of what is wrong with them in the log, in bytes.
const MAX_REASON: usize = 1 << 10;

/// The tasks that send and receive.
pub struct Exchange {
    stop: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

impl Exchange {
    /// Starts to share the points of a store that was opened for it.
    pub fn start(store: &Arc<Store>, log: Log) -> Self {
        let (stop, log) = (CancellationToken::new(), Arc::new(log));
        let sending = {
            let (store, log, stop) = (Arc::clone(store), Arc::clone(&log), stop.clone());
            async move {
                if let Some(sharing) = store.sharing() {
                    tokio::select! {
                        never = send(sharing, &log) => match never {},
                        () = stop.cancelled() => send_the_last(sharing, &log).await,
                    }
                }
            }
        };
        let receiving = {
            let (store, stop) = (Arc::clone(store), stop.clone());
            async move {
                if let Some(sharing) = store.sharing() {
                    tokio::select! {
                        never = receive(sharing, &log) => match never {},
                        () = stop.cancelled() => {}
                    }
                }
            }
        };
        Self {
            stop,
            tasks: [tokio::spawn(sending), tokio::spawn(receiving)],
        }
    }

    /// Sends what waits to be sent, for five seconds at most, and ends. The rest stays in the file.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "the exchange of calls with other hosts ended early");
            }
        }
    }
}

/// Sends points whenever there are some.
async fn send(sharing: Sharing<'_>, log: &Log) -> Infallible {
    let mut failing = false;
    loop {
        match send_oldest(sharing, log).await {
            Ok(true) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("calls are sent to other hosts again");
                }
            }
            Ok(false) => sharing.written().await,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "calls cannot be sent to other hosts; they wait until they can"
                    );
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }
}

/// Sends the oldest points. Returns whether there were any.
async fn send_oldest(sharing: Sharing<'_>, log: &Log) -> anyhow::Result<bool> {
    let max_bytes = log.max_payload().min(MAX_MESSAGE);
    let Some(mut oldest) = sharing.outgoing(max_bytes).await? else {
        return Ok(false);
    };
    let payload = std::mem::take(&mut oldest.payload);
    match log.add(&oldest.id, payload).await {
        Ok(()) => {}
        Err(error @ log::Error::TooLarge { .. }) if oldest.points == 1 => {
            tracing::error!(%error, "a point counts on this host only; raise the limit, or write smaller ones");
        }
        // The limit has become lower; the next message will have fewer points.
        Err(log::Error::TooLarge { .. }) => return Ok(true),
        Err(error) => return Err(error.into()),
    }
    sharing.confirm(oldest).await?;
    Ok(true)
}

/// Sends what can be sent quickly.
async fn send_the_last(sharing: Sharing<'_>, log: &Log) {
    let sending = async {
        while send_oldest(sharing, log).await? {}
        anyhow::Ok(())
    };
    let error = match tokio::time::timeout(STOP_TIMEOUT, sending).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => format!("not finished within {} s", STOP_TIMEOUT.as_secs()),
    };
    match sharing.waiting().await {
        Ok(points) => tracing::warn!(
            error,
            points,
            "calls could not be sent to other hosts; they are sent after the next start"
        ),
        Err(error) => tracing::error!(%error, "cannot count the calls that were not sent"),
    }
}

/// Receives the points of other hosts.
async fn receive(sharing: Sharing<'_>, log: &Log) -> Infallible {
    let (mut failing, mut warnings) = (false, Warnings::default());
    loop {
        let Err(error) = receive_until_error(sharing, log, &mut failing, &mut warnings).await;
        if !std::mem::replace(&mut failing, true) {
            tracing::warn!(
                error = format!("{error:#}"),
                "calls of other hosts cannot be received; trying again until they can"
            );
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

async fn receive_until_error(
    sharing: Sharing<'_>,
    log: &Log,
    failing: &mut bool,
    warnings: &mut Warnings,
) -> anyhow::Result<Infallible> {
    let after = sharing.position().await?;
    let after = after.map(|Position { sequence, time }| log::Position { sequence, time });
    let mut reader = log.read(after).await?;
    loop {
        let messages = reader.next().await?;
        if std::mem::take(failing) {
            tracing::info!("calls of other hosts are received again");
        }
        let messages: Vec<Incoming> = messages.into_iter().map(incoming).collect();
        if let Some(rejected) = sharing.apply(&messages).await? {
            warnings.log(&rejected);
        }
    }
}

fn incoming(message: log::Message) -> Incoming {
    let log::Position { sequence, time } = message.position;
    Incoming {
        position: Position { sequence, time },
        payload: message.payload.into(),
    }
}

/// Warnings of invalid messages: one per [`WARNING_INTERVAL`].
#[derive(Default)]
struct Warnings {
    last: Option<Instant>,
    /// Messages and points since then.
    count: u64,
}

impl Warnings {
    fn log(&mut self, Rejected { count, reason }: &Rejected) {
        self.count += count;
        if self
            .last
            .is_some_and(|last| last.elapsed() < WARNING_INTERVAL)
        {
            return;
        }
        self.last = Some(Instant::now());
        tracing::warn!(
            count = std::mem::take(&mut self.count),
            reason = &reason[..reason.floor_char_boundary(MAX_REASON)],
            stream = STREAM,
            "messages that no host has sent were left out"
        );
    }
}
