//! What JetStream keeps of jobs.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::object_store::{self, InfoErrorKind, ObjectStore};
use async_nats::jetstream::stream::{self, RetentionPolicy};
use async_nats::jetstream::{self, Context, kv};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

use super::body::pieces_of;
use super::error::Error;

/// Name of the stream of waiting jobs, of the bucket of records and of the object store; prefix of their subjects.
pub(super) const NAME: &str = "whisper-jobs";
/// Name of the stream of failed jobs.
pub(super) const FAILED: &str = "whisper-jobs-failed";
/// Name of the stream of jobs whose callbacks are due.
pub(super) const CALLBACKS: &str = "whisper-jobs-callbacks";
/// How long failed jobs are kept in their stream.
const FAILED_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// Maximum size of all records together, in bytes.
const MAX_RECORDS: i64 = 1 << 30;
/// Time for one operation of JetStream.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How jobs are kept and run.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long records, bodies and results are kept after their last change.
    pub retention: Duration,
    /// How long a worker that runs a job may be silent before another one gets it.
    pub ack_wait: Duration,
    /// How often a job is started at most.
    pub attempts: u32,
    /// Servers of the NATS cluster that keep each job.
    pub replicas: usize,
    /// Maximum size of all bodies and long results together, in bytes.
    pub max_bytes: u64,
}

/// What JetStream keeps of jobs, as one client sees it.
pub(super) struct Stores {
    /// Of the client.
    pub(super) generation: u64,
    context: Context,
    pub(super) records: kv::Store,
    pub(super) bodies: ObjectStore,
    /// The stream of the records.
    records_stream: stream::Stream,
    /// The stream of the bodies.
    pub(super) bodies_stream: stream::Stream,
    pub(super) waiting: stream::Stream,
    pub(super) callbacks: stream::Stream,
}

impl Stores {
    /// Opens the streams and buckets, and creates those that do not exist.
    pub(super) async fn open(
        client: Client,
        generation: u64,
        config: &Config,
    ) -> Result<Self, Error> {
        let mut context = jetstream::new(client);
        context.set_timeout(TIMEOUT);
        let (retention, num_replicas) = (config.retention, config.replicas);
        let records = kv::Config {
            bucket: NAME.into(),
            history: 1,
            max_age: retention,
            max_bytes: MAX_RECORDS,
            num_replicas,
            ..kv::Config::default()
        };
        let bodies = object_store::Config {
            bucket: NAME.into(),
            max_age: retention,
            max_bytes: i64::try_from(config.max_bytes).unwrap_or(i64::MAX),
            num_replicas,
            ..object_store::Config::default()
        };
        let stream = |name: &str, tokens: &str, retention, max_age| stream::Config {
            name: name.into(),
            subjects: vec![format!("{name}.{tokens}")],
            retention,
            max_age,
            num_replicas,
            ..stream::Config::default()
        };
        let waiting = stream(NAME, "*.*", RetentionPolicy::WorkQueue, retention);
        let callbacks = stream(CALLBACKS, "*", RetentionPolicy::WorkQueue, retention);
        let failed = stream(FAILED, "*", RetentionPolicy::Limits, FAILED_RETENTION);
        for config in [waiting, callbacks, failed] {
            let created = context.create_or_update_stream(config).await;
            created.map_err(Error::unavailable)?;
        }
        let records = context.create_or_update_key_value(records).await;
        // A store with other settings is used as it is.
        let bodies = match context.create_object_store(bodies).await {
            Ok(bodies) => bodies,
            Err(why) => {
                let existing = context.get_object_store(NAME).await;
                existing.map_err(|_| Error::unavailable(why))?
            }
        };
        let stream = async |name: &str| context.get_stream(name).await.map_err(Error::unavailable);
        Ok(Self {
            generation,
            records: records.map_err(Error::unavailable)?,
            bodies,
            records_stream: stream(&format!("KV_{NAME}")).await?,
            bodies_stream: stream(&format!("OBJ_{NAME}")).await?,
            waiting: stream(NAME).await?,
            callbacks: stream(CALLBACKS).await?,
            context,
        })
    }

    /// Removes a record. Nothing is left, not even a marker.
    pub(super) async fn remove_record(&self, key: &str) -> Result<(), Error> {
        let subject = format!("$KV.{NAME}.{key}");
        let purged = self.records_stream.purge().filter(subject).await;
        purged.map(drop).map_err(Error::unavailable)
    }

    /// Removes a body, if it exists. Nothing is left, not even a marker.
    pub(super) async fn remove_body(&self, name: &str) -> Result<(), Error> {
        let info = match self.bodies.info(name).await {
            Ok(info) => info,
            Err(error) if error.kind() == InfoErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::unavailable(error)),
        };
        let description = format!("$O.{NAME}.M.{}", URL_SAFE.encode(name));
        for subject in [pieces_of(&info), description] {
            let purged = self.bodies_stream.purge().filter(subject).await;
            purged.map_err(Error::unavailable)?;
        }
        Ok(())
    }

    /// Adds a message to a stream, and waits until it is kept.
    pub(super) async fn publish(
        &self,
        subject: String,
        message: PublishMessage,
    ) -> Result<(), Error> {
        let published = self.context.send_publish(subject, message).await;
        let acknowledged = published.map_err(Error::unavailable)?.await;
        acknowledged.map(drop).map_err(Error::unavailable)
    }
}
