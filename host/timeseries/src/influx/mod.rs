//! The store in a bucket of InfluxDB 2.
//!
//! A written point is first on disk, in a spool, and then delivered. Queries add what is still in the spool to what the server has.
//! A delivery that may or may not have arrived is repeated before a query; InfluxDB keeps one point for each series and time, so
//! repeating it changes nothing.

mod api;
mod config;
mod delivery;
mod flux;
mod line;
mod metrics;
mod order;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, RwLock};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use self::config::{Config, Location};

use self::api::{Api, Failure};
use self::delivery::{Delivery, Shared};
use self::metrics::Metrics;
use crate::sqlite::{Spool, Sqlite};
use crate::{Aggregation, Error, Point, Query};

/// Maximum time of a query, including the delivery before it.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// An open store in InfluxDB.
pub(crate) struct Influx {
    shared: Arc<Shared>,
    spooled: Sqlite,
    /// Tag that tells the points of this store from those of others, which may have the same series and time.
    instance: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Influx {
    /// Opens the spool, checks the server and begins to deliver.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let config = Arc::new(config);
        let path = config.spool.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let spooled = Sqlite::open(&path, None)?;
            Ok((spooled, Spool::open(&path)?))
        });
        let (spooled, spool) = opened
            .await
            .map_err(|error| Error::Unavailable(format!("cannot open the spool: {error}")))??;
        let spool = Arc::new(spool);
        let api = Arc::new(Api::new(Arc::clone(&config)));
        let metrics = Metrics::default();
        let instance = spool.instance().await?;
        let delivery = Delivery::new(
            Arc::clone(&config),
            Arc::clone(&api),
            spool,
            metrics.clone(),
        );
        let mut delivery = delivery.await?;
        delivery.prepare_if_reachable().await?;
        let shared = Arc::new(Shared {
            config,
            delivery: RwLock::new(delivery),
            api,
            metrics,
            written: Notify::new(),
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(delivery::run(Arc::clone(&shared), stop.clone()));
        Ok(Self {
            shared,
            spooled,
            instance,
            stop,
            task,
        })
    }

    /// Writes points to the spool.
    pub async fn write(&self, mut points: Vec<Point>) -> Result<(), Error> {
        for (index, point) in points.iter_mut().enumerate() {
            let checked = match point.time {
                Some(time) if time > line::MAX_TIME => {
                    Err(format!("time {time} is after the year 2262"))
                }
                _ => line::check(point),
            };
            checked.map_err(|rule| Error::Invalid(format!("point {index}: {rule}")))?;
            if point.tags.iter().all(|(key, _)| key != INSTANCE) {
                point.tags.push((INSTANCE.into(), self.instance.clone()));
            }
        }
        let count = points.len() as u64;
        self.spooled.write(points).await?;
        self.shared.metrics.written(count);
        self.shared.written.notify_one();
        Ok(())
    }

    pub async fn aggregate(&self, query: Query) -> Result<Option<f64>, Error> {
        let answer = timeout(QUERY_TIMEOUT, self.shared.aggregate(&query, &self.spooled));
        answer.await.unwrap_or_else(|_| {
            let seconds = QUERY_TIMEOUT.as_secs();
            let failure = Failure::NoAnswer(format!("no answer within {seconds} s"));
            Err(self.shared.unavailable(&failure))
        })
    }

    /// Delivers what can be delivered quickly; the rest stays in the spool.
    pub async fn close(self) -> Result<(), Error> {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the delivery to InfluxDB ended early");
        }
        self.spooled.close().await
    }
}

/// OpenTelemetry's name for the id of a process that is one of many.
const INSTANCE: &str = "service.instance.id";

impl Shared {
    async fn aggregate(&self, query: &Query, spooled: &Sqlite) -> Result<Option<f64>, Error> {
        // Holds back deliveries, but no other queries.
        let mut held = self.delivery.read().await;
        while !held.is_settled() {
            drop(held);
            let mut delivery = self.delivery.write().await;
            let settled = delivery.settle().await;
            settled.map_err(|failure| self.unavailable(&failure))?;
            held = delivery.downgrade();
        }
        let count_only = query.aggregation == Aggregation::Count;
        let local = spooled.totals(query.clone()).await?;
        let run = async |script, max_result| {
            let result = self.api.query(script, max_result).await;
            result.map_err(|failure| self.unavailable(&failure))
        };
        let unreadable = |reason| self.unavailable(&Failure::NoAnswer(reason));
        let bucket = &self.config.location.bucket;
        let script = flux::totals(bucket, query, count_only);
        let totals = run(script, flux::MAX_TOTALS).await?;
        let server = flux::read_totals(&totals).map_err(unreadable)?;
        let count = server.count + local.count as f64;
        if !count_only && (server.others > 0.0 || local.numbers < local.count) {
            return Err(Error::not_numeric(&query.measurement, &query.field));
        }
        let share = match query.aggregation {
            Aggregation::Count => return Ok(Some(count)),
            Aggregation::Sum => return Ok(Some(server.sum + local.sum)),
            _ if count == 0.0 => return Ok(None),
            Aggregation::Mean => return Ok(Some((server.sum + local.sum) / count)),
            Aggregation::Min => 0.0,
            Aggregation::Max => 1.0,
            Aggregation::Median => 0.5,
            Aggregation::Quantile(share) => share,
        };
        let values = match local.count {
            0 => Vec::new(),
            _ => spooled.numbers(query.clone()).await?,
        };
        let ranks = order::Ranks::new(share, server.count as u64, values);
        let (offset, limit) = ranks.wanted();
        let fetched = match limit {
            0 => Vec::new(),
            _ => {
                let script = flux::ranks(bucket, query, offset, limit);
                let csv = run(script, flux::max_ranks(limit)).await?;
                // There may be as many as points in the spool.
                let read = tokio::task::spawn_blocking(move || flux::read_ranks(&csv, limit));
                let read = read.await.unwrap_or_else(|error| Err(error.to_string()));
                read.map_err(unreadable)?
            }
        };
        Ok(ranks.quantile(fetched))
    }

    /// Logs a failure. What the component gets may reach its clients: it does not name the server.
    fn unavailable(&self, failure: &Failure) -> Error {
        let reason = failure.explain(&self.config.location);
        tracing::warn!(reason, "InfluxDB cannot be asked");
        Error::Unavailable("InfluxDB cannot be asked; the log of the host says why".into())
    }
}
