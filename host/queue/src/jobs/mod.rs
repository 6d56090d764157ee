//! Durable jobs on JetStream: each is a request whose body is in an object store, whose record is in a key-value bucket, and whose id
//! is in a stream that workers take from.
//!
//! A job ends once: its record changes on top of the last change only, so of two workers that run it, the second one to finish
//! changes nothing.

mod delivery;
mod error;
mod record;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::kv::{self, UpdateErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::object_store::{self, Object, ObjectMetadata, ObjectStore};
use async_nats::jetstream::stream::{self, RetentionPolicy};
use async_nats::jetstream::{self, Context};
use futures::StreamExt as _;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::Mutex;
use uuid::Uuid;

pub use delivery::Delivery;
pub use error::Error;
pub use record::{Record, Request, State};

use crate::connection::Connection;

/// Name of the stream of waiting jobs, of the bucket of records and of the object store; prefix of their subjects.
const NAME: &str = "whisper-jobs";
/// Name of the stream of failed jobs.
const FAILED: &str = "whisper-jobs-failed";
/// How long failed jobs are kept in that stream.
const FAILED_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// Maximum length of a result that is kept in its record. NATS accepts messages of a mebibyte, unless it is set up otherwise.
const MAX_IN_RECORD: usize = 256 << 10;
/// How long a worker waits for a job before it asks again.
const PULL: Duration = Duration::from_secs(30);
/// Time for one operation of JetStream.
const TIMEOUT: Duration = Duration::from_secs(10);

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
}

/// Durable jobs.
pub struct Jobs {
    connection: Connection,
    config: Config,
    /// `None` before it is needed first.
    stores: Mutex<Option<Arc<Stores>>>,
}

/// What JetStream keeps of jobs, as one client sees it.
struct Stores {
    generation: u64,
    context: Context,
    records: kv::Store,
    bodies: ObjectStore,
    waiting: stream::Stream,
}

/// The jobs of a component that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Jobs that no worker has.
    pub waiting: u64,
    /// Jobs that a worker has, or that wait for their next attempt.
    pub taken: u64,
    /// Age of the oldest job of all components.
    pub oldest: Duration,
}

/// The revision of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision(u64);

impl Stores {
    /// Adds a message of a component to a stream, and waits until it is kept.
    async fn publish(
        &self,
        stream: &str,
        component: &str,
        message: PublishMessage,
    ) -> Result<(), Error> {
        let subject = format!("{stream}.{component}");
        let published = self.context.send_publish(subject, message).await;
        let acknowledged = published.map_err(Error::unavailable)?.await;
        acknowledged.map(drop).map_err(Error::unavailable)
    }
}

impl Jobs {
    /// Returns the jobs of a connection. Streams and buckets are created when they are needed first.
    #[must_use]
    pub fn new(connection: &Connection, config: Config) -> Self {
        Self {
            connection: connection.clone(),
            config,
            stores: Mutex::default(),
        }
    }

    /// Returns how jobs are kept and run.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    async fn stores(&self) -> Result<Arc<Stores>, Error> {
        let mut stores = self.stores.lock().await;
        let (client, generation) = self.connection.client();
        match &*stores {
            Some(stores) if stores.generation == generation => Ok(Arc::clone(stores)),
            _ => {
                let opened = Arc::new(self.open(client, generation).await?);
                *stores = Some(Arc::clone(&opened));
                Ok(opened)
            }
        }
    }

    async fn open(&self, client: Client, generation: u64) -> Result<Stores, Error> {
        let mut context = jetstream::new(client);
        context.set_timeout(TIMEOUT);
        let Config {
            retention,
            replicas,
            ..
        } = self.config;
        let records = kv::Config {
            bucket: NAME.into(),
            history: 1,
            max_age: retention,
            num_replicas: replicas,
            ..kv::Config::default()
        };
        let bodies = object_store::Config {
            bucket: NAME.into(),
            max_age: retention,
            num_replicas: replicas,
            ..object_store::Config::default()
        };
        let waiting = stream::Config {
            name: NAME.into(),
            subjects: vec![format!("{NAME}.*")],
            retention: RetentionPolicy::WorkQueue,
            num_replicas: replicas,
            ..stream::Config::default()
        };
        let failed = stream::Config {
            name: FAILED.into(),
            subjects: vec![format!("{FAILED}.*")],
            max_age: FAILED_RETENTION,
            num_replicas: replicas,
            ..stream::Config::default()
        };
        for config in [waiting, failed] {
            let created = context.create_or_update_stream(config).await;
            created.map_err(Error::unavailable)?;
        }
        let records = context.create_or_update_key_value(records).await;
        // A store with other settings is used as it is.
        let bodies = match context.create_object_store(bodies).await {
            Ok(bodies) => Ok(bodies),
            Err(_) => context.get_object_store(NAME).await,
        };
        Ok(Stores {
            generation,
            records: records.map_err(Error::unavailable)?,
            bodies: bodies.map_err(Error::unavailable)?,
            waiting: context.get_stream(NAME).await.map_err(Error::unavailable)?,
            context,
        })
    }

    /// Stores a job, and hands it to the workers. It is safe when this returns.
    ///
    /// # Errors
    /// [`Error::Unavailable`], or [`Error::Incomplete`].
    pub async fn create(
        &self,
        id: Uuid,
        record: &Record,
        body: &mut (impl AsyncRead + Unpin),
    ) -> Result<(), Error> {
        let stores = self.stores().await?;
        let metadata = ObjectMetadata {
            name: id.to_string(),
            ..ObjectMetadata::default()
        };
        let stored = stores.bodies.put(metadata, body).await;
        stored.map_err(|error| match error.kind() {
            object_store::PutErrorKind::ReadChunks => Error::Incomplete,
            _ => Error::unavailable(error),
        })?;
        let created = stores.records.create(id.to_string(), json(record)).await;
        created.map_err(Error::unavailable)?;
        let message = PublishMessage::build()
            .message_id(id.to_string())
            .payload(id.to_string().into());
        stores.publish(NAME, &record.component, message).await
    }

    /// Returns the record of a job; `None` if there is none, or it has expired.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn get(&self, id: Uuid) -> Result<Option<(Record, Revision)>, Error> {
        let stores = self.stores().await?;
        let entry = stores.records.entry(id.to_string()).await;
        let Some(entry) = entry.map_err(Error::unavailable)? else {
            return Ok(None);
        };
        if entry.operation != kv::Operation::Put {
            return Ok(None);
        }
        let record = serde_json::from_slice(&entry.value).map_err(|error| {
            Error::Unavailable(format!("the record of job {id} is malformed: {error}"))
        })?;
        Ok(Some((record, Revision(entry.revision))))
    }

    /// Changes a record on top of a revision.
    ///
    /// # Errors
    /// [`Error::Conflict`], or [`Error::Unavailable`].
    pub async fn update(
        &self,
        id: Uuid,
        record: &Record,
        revision: Revision,
    ) -> Result<Revision, Error> {
        let stores = self.stores().await?;
        let updated = stores
            .records
            .update(id.to_string(), json(record), revision.0)
            .await;
        match updated {
            Ok(revision) => Ok(Revision(revision)),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {
                Err(Error::Conflict)
            }
            Err(error) => Err(Error::unavailable(error)),
        }
    }

    /// Changes a record to that of a job that succeeded. A long result is stored separately.
    ///
    /// # Errors
    /// [`Error::Conflict`], or [`Error::Unavailable`].
    pub async fn succeed(
        &self,
        id: Uuid,
        record: Record,
        result: Box<RawValue>,
        revision: Revision,
    ) -> Result<Revision, Error> {
        let result = match result.get().len() {
            ..=MAX_IN_RECORD => Some(result),
            _ => {
                let name = result_name(id);
                let bodies = &self.stores().await?.bodies;
                let stored = bodies
                    .put(name.as_str(), &mut result.get().as_bytes())
                    .await;
                stored.map_err(Error::unavailable)?;
                None
            }
        };
        let record = Record {
            state: State::Done { result },
            ..record
        };
        self.update(id, &record, revision).await
    }

    /// Returns the result of a job that is not in its record; `None` if it has expired.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn long_result(&self, id: Uuid) -> Result<Option<Box<RawValue>>, Error> {
        let Some(mut stored) = self.object(&result_name(id)).await? else {
            return Ok(None);
        };
        let mut text = String::new();
        let read = stored.read_to_string(&mut text).await;
        read.map_err(Error::unavailable)?;
        let result = RawValue::from_string(text).map_err(Error::unavailable)?;
        Ok(Some(result))
    }

    /// Removes the body of a job that has ended.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn remove_body(&self, id: Uuid) -> Result<(), Error> {
        self.remove_object(&id.to_string()).await
    }

    async fn remove_object(&self, name: &str) -> Result<(), Error> {
        let stores = self.stores().await?;
        match stores.bodies.delete(name).await {
            Err(error) if error.kind() != object_store::DeleteErrorKind::NotFound => {
                Err(Error::unavailable(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes what is known of a job.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn remove(&self, id: Uuid) -> Result<(), Error> {
        self.remove_body(id).await?;
        self.remove_object(&result_name(id)).await?;
        let removed = self.stores().await?.records.purge(id.to_string()).await;
        removed.map_err(Error::unavailable)
    }

    /// Returns the body of a job; `None` if it has expired.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn body(&self, id: Uuid) -> Result<Option<Object>, Error> {
        self.object(&id.to_string()).await
    }

    async fn object(&self, name: &str) -> Result<Option<Object>, Error> {
        let stores = self.stores().await?;
        match stores.bodies.get(name).await {
            Ok(body) => Ok(Some(body)),
            Err(error) if error.kind() == object_store::GetErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::unavailable(error)),
        }
    }

    /// Returns the jobs of a component, for a worker.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn worker(&self, component: &str) -> Result<Worker, Error> {
        let stores = self.stores().await?;
        let config = pull::Config {
            durable_name: Some(component.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.config.ack_wait,
            // The workers count the attempts: the server would leave a job in the stream without a word.
            max_deliver: -1,
            filter_subject: format!("{NAME}.{component}"),
            max_ack_pending: -1,
            ..pull::Config::default()
        };
        let consumer = stores.waiting.create_consumer(config).await;
        Ok(Worker {
            consumer: consumer.map_err(Error::unavailable)?,
        })
    }

    /// Returns how many jobs of a component have not ended.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn depth(&self, component: &str) -> Result<Depth, Error> {
        let stores = self.stores().await?;
        let consumer = stores.waiting.get_consumer::<pull::Config>(component).await;
        let consumer = consumer.map_err(Error::unavailable)?;
        let info = consumer.get_info().await.map_err(Error::unavailable)?;
        let stream = stores
            .waiting
            .get_info()
            .await
            .map_err(Error::unavailable)?;
        let oldest = match stream.state.messages {
            0 => Duration::ZERO,
            // The clocks of two machines may differ.
            _ => SystemTime::from(stream.state.first_timestamp)
                .elapsed()
                .unwrap_or_default(),
        };
        Ok(Depth {
            waiting: info.num_pending,
            taken: info.num_ack_pending as u64,
            oldest,
        })
    }

    /// Keeps a job that failed, with the reason, for people.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn keep_failed(&self, id: Uuid, record: &Record) -> Result<(), Error> {
        let stores = self.stores().await?;
        let message = PublishMessage::build()
            .message_id(id.to_string())
            .header("job-id", id.to_string().as_str())
            .payload(json(record));
        stores.publish(FAILED, &record.component, message).await
    }
}

/// Takes the jobs of a component.
pub struct Worker {
    consumer: PullConsumer,
}

impl Worker {
    /// Waits for the next job; `None` if there is none for a while.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn next(&self) -> Result<Option<Delivery>, Error> {
        let batch = self.consumer.batch().max_messages(1).expires(PULL);
        let mut batch = batch.messages().await.map_err(Error::unavailable)?;
        match batch.next().await {
            Some(Ok(message)) => Ok(Some(Delivery::new(message))),
            Some(Err(error)) => Err(Error::Unavailable(error.to_string())),
            None => Ok(None),
        }
    }
}

fn result_name(id: Uuid) -> String {
    format!("{id}.result")
}

fn json(record: &Record) -> bytes::Bytes {
    serde_json::to_vec(record)
        .expect("strings, numbers and JSON always have a JSON form")
        .into()
}
