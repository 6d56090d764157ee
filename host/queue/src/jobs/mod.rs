//! Durable jobs on JetStream: each is a request whose body is in an object store, whose record is in a key-value bucket, and whose id
//! is in a stream that workers take from.
//!
//! A job ends once: its record changes on top of the last change only, so of two workers that run it, the one that took it first
//! changes nothing any more.

mod body;
mod delivery;
mod error;
mod record;
mod stores;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_nats::Subscriber;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::kv::{self, CreateErrorKind, UpdateErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::object_store::{InfoErrorKind, ObjectMetadata};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncRead;
use tokio::sync::{Mutex, OnceCell};
use uuid::Uuid;

pub use body::Body;
pub use delivery::Delivery;
pub use error::Error;
pub use record::{Priority, Record, Request, Response, State};
pub use stores::Config;
use stores::{FAILED, NAME, Stores};
pub use worker::Worker;

use crate::connection::Connection;

/// Prefix of the subjects on which hosts tell each other that a job has changed.
const CHANGED: &str = "whisper-jobs-changed";
/// Maximum length of a record with the body of its response, in bytes. NATS accepts messages of a mebibyte, unless it is set up otherwise.
const MAX_RECORD: usize = 256 << 10;
/// How long a worker that calls back may be silent before another one does.
const CALLBACK_ACK_WAIT: Duration = Duration::from_secs(60);

/// Durable jobs.
pub struct Jobs {
    main: Connection,
    /// Of its own, so that messages from others do not delay jobs. Opened when it is needed first.
    connection: OnceCell<Connection>,
    config: Config,
    /// `None` before they are needed first.
    stores: Mutex<Option<Arc<Stores>>>,
    /// Whether an operation has failed since they were opened: they may have been deleted.
    is_stale: AtomicBool,
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

/// Tells the changes of a job.
pub struct Changes(Subscriber);

impl Changes {
    /// Waits until a worker says that it has taken the job, or that the job has ended. What it says may be lost with the connection.
    pub async fn next(&mut self) {
        if self.0.next().await.is_none() {
            std::future::pending().await
        }
    }
}

impl Jobs {
    /// Returns the jobs of a NATS server. Streams and buckets are created when they are needed first.
    #[must_use]
    pub fn new(connection: &Connection, config: Config) -> Self {
        Self {
            main: connection.clone(),
            connection: OnceCell::new(),
            config,
            stores: Mutex::default(),
            is_stale: AtomicBool::new(false),
        }
    }

    /// Returns how jobs are kept and run.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    async fn connection(&self) -> Result<&Connection, Error> {
        let opened = self
            .connection
            .get_or_try_init(|| self.main.another("jobs".into()));
        opened
            .await
            .map_err(|error| Error::Unavailable(format!("{error:#}")))
    }

    async fn stores(&self) -> Result<Arc<Stores>, Error> {
        let (client, generation) = self.connection().await?.client();
        let mut stores = self.stores.lock().await;
        let is_stale = self.is_stale.swap(false, Ordering::Relaxed);
        match &*stores {
            Some(stores) if !is_stale && stores.generation == generation => Ok(Arc::clone(stores)),
            _ => {
                *stores = None;
                let opened = Stores::open(client, generation, &self.config).await?;
                let opened = Arc::new(opened);
                *stores = Some(Arc::clone(&opened));
                Ok(opened)
            }
        }
    }

    /// Returns the error of an operation. The stores are opened again before the next one.
    fn failed(&self, error: impl std::fmt::Display) -> Error {
        self.is_stale.store(true, Ordering::Relaxed);
        Error::unavailable(error)
    }

    /// Stores the body of a job that is not created yet.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn store_body(
        &self,
        id: Uuid,
        body: &mut (impl AsyncRead + Unpin),
    ) -> Result<(), Error> {
        self.store(id.to_string(), body).await
    }

    async fn store(&self, name: String, data: &mut (impl AsyncRead + Unpin)) -> Result<(), Error> {
        let stores = self.stores().await?;
        let metadata = ObjectMetadata {
            name,
            ..ObjectMetadata::default()
        };
        let stored = stores.bodies.put(metadata, data).await;
        stored.map(drop).map_err(|error| self.failed(error))
    }

    /// Hands a job whose body is stored to the workers. It is safe when this returns.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn create(&self, id: Uuid, record: &Record) -> Result<(), Error> {
        let stores = self.stores().await?;
        let created = stores.records.create(id.to_string(), json(record)).await;
        created.map_err(|error| self.failed(error))?;
        let subject = subject(record.priority, &record.component);
        self.publish_id(subject, id).await
    }

    /// Adds the id of a job to a stream that workers take from.
    async fn publish_id(&self, subject: String, id: Uuid) -> Result<(), Error> {
        let message = PublishMessage::build()
            .message_id(id.to_string())
            .payload(id.to_string().into());
        let published = self.stores().await?.publish(subject, message).await;
        published.map_err(|error| self.failed(error))
    }

    /// Returns the job that stands for all with the same content: an earlier one that has not failed, or else `id` itself, which has
    /// been created.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn first_with(&self, content: &str, id: Uuid) -> Result<Uuid, Error> {
        let key = format!("content.{content}");
        let value = || Bytes::from(id.to_string());
        loop {
            let stores = self.stores().await?;
            let entry = stores.records.entry(&key).await;
            let entry = entry.map_err(|error| self.failed(error))?;
            let Some(entry) = entry.filter(|entry| entry.operation == kv::Operation::Put) else {
                match stores.records.create(&key, value()).await {
                    Ok(_) => return Ok(id),
                    Err(error) if error.kind() == CreateErrorKind::AlreadyExists => continue,
                    Err(error) => return Err(self.failed(error)),
                }
            };
            let earlier = std::str::from_utf8(&entry.value).ok();
            if let Some(earlier) = earlier.and_then(|earlier| earlier.parse().ok())
                && let Some((record, _)) = self.get(earlier).await?
                && !matches!(record.state, State::Failed(_) | State::Cancelled)
            {
                return Ok(earlier);
            }
            match stores.records.update(&key, value(), entry.revision).await {
                Ok(_) => return Ok(id),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Returns the record of a job; `None` if there is none, or it has expired.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn get(&self, id: Uuid) -> Result<Option<(Record, Revision)>, Error> {
        let stores = self.stores().await?;
        let entry = stores.records.entry(id.to_string()).await;
        let Some(entry) = entry.map_err(|error| self.failed(error))? else {
            return Ok(None);
        };
        if entry.operation != kv::Operation::Put {
            return Ok(None);
        }
        match serde_json::from_slice(&entry.value) {
            Ok(record) => Ok(Some((record, Revision(entry.revision)))),
            Err(error) => {
                tracing::warn!(job = %id, %error, "the record of a job is malformed; the job is ignored");
                Ok(None)
            }
        }
    }

    /// Changes a record on top of a revision. The body of a long response is stored separately.
    ///
    /// # Errors
    /// [`Error::Conflict`], or [`Error::Unavailable`].
    pub async fn update(
        &self,
        id: Uuid,
        record: &mut Record,
        revision: Revision,
    ) -> Result<Revision, Error> {
        let stores = self.stores().await?;
        let mut text = json(record);
        // Half of what the server accepts leaves room for what is added to it.
        let (client, _) = self.connection().await?.client();
        let limit = MAX_RECORD.min(client.max_payload() / 2);
        if text.len() > limit
            && let State::Done(response) | State::Failed(response) = &mut record.state
            && let Some(body) = response.body.take()
        {
            self.store(response_name(id), &mut body.as_bytes()).await?;
            text = json(record);
        }
        let updated = stores
            .records
            .update(id.to_string(), text, revision.0)
            .await;
        match updated {
            Ok(revision) => Ok(Revision(revision)),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {
                Err(Error::Conflict)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Returns the body of a response that is not in its record; `None` if it has expired.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn long_response(&self, id: Uuid) -> Result<Option<String>, Error> {
        let Some(mut stored) = self.read(&response_name(id)).await? else {
            return Ok(None);
        };
        let mut bytes = BytesMut::new();
        while let Some(piece) = stored.next().await.map_err(|error| self.failed(error))? {
            bytes.extend_from_slice(&piece);
        }
        let text = String::from_utf8(bytes.into());
        text.map(Some).map_err(|error| self.failed(error))
    }

    /// Returns the body of a job; `None` if it has expired.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn body(&self, id: Uuid) -> Result<Option<Body>, Error> {
        self.read(&id.to_string()).await
    }

    async fn read(&self, name: &str) -> Result<Option<Body>, Error> {
        let stores = self.stores().await?;
        match stores.bodies.info(name).await {
            Ok(info) => Ok(Some(Body::new(stores.bodies_stream.clone(), &info))),
            Err(error) if error.kind() == InfoErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Removes the body of a job.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn remove_body(&self, id: Uuid) -> Result<(), Error> {
        let removed = self.stores().await?.remove_body(&id.to_string()).await;
        removed.map_err(|error| self.failed(error))
    }

    /// Removes what is known of a job. A worker that runs it notices that.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn remove(&self, id: Uuid) -> Result<(), Error> {
        let stores = self.stores().await?;
        let removing = async {
            stores.remove_record(&id.to_string()).await?;
            stores.remove_body(&id.to_string()).await?;
            stores.remove_body(&response_name(id)).await
        };
        removing.await.map_err(|error| self.failed(error))
    }

    /// Returns what tells the changes of a job that is created after this.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn changes(&self, id: Uuid) -> Result<Changes, Error> {
        let (client, _) = self.connection().await?.client();
        // The server has it before anything that is sent later.
        let subscribed = client.subscribe(format!("{CHANGED}.{id}")).await;
        subscribed.map(Changes).map_err(|error| self.failed(error))
    }

    /// Tells whoever waits for a job that it has changed.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn tell_change(&self, id: Uuid) -> Result<(), Error> {
        let (client, _) = self.connection().await?.client();
        let told = client
            .publish(format!("{CHANGED}.{id}"), Bytes::new())
            .await;
        told.map_err(|error| self.failed(error))
    }

    /// Returns the jobs of a component with this priority, for a worker.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn worker(&self, component: &str, priority: Priority) -> Result<Worker, Error> {
        let config = pull::Config {
            durable_name: Some(consumer_name(component, priority)),
            ack_wait: self.config.ack_wait,
            filter_subject: subject(priority, component),
            ..unlimited()
        };
        let worker = Worker::new(&self.stores().await?.waiting, config).await;
        worker.map_err(|error| self.failed(error))
    }

    /// Returns how many jobs of a component have not ended.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn depth(&self, component: &str) -> Result<Depth, Error> {
        let stores = self.stores().await?;
        let (mut total, mut taken) = (0, 0);
        for priority in Priority::ALL {
            let subject = subject(priority, component);
            let subjects = stores.waiting.info_with_subjects(subject).await;
            let subjects = subjects.map_err(|error| self.failed(error))?;
            let counts: Vec<(String, usize)> = subjects
                .try_collect()
                .await
                .map_err(|error| self.failed(error))?;
            let count: usize = counts.iter().map(|(_, count)| count).sum();
            total += count as u64;
            // There is none before the first worker.
            let name = consumer_name(component, priority);
            if count > 0
                && let Ok(consumer) = stores.waiting.get_consumer::<pull::Config>(&name).await
            {
                taken += consumer.cached_info().num_ack_pending as u64;
            }
        }
        let stream = stores.waiting.get_info().await;
        let stream = stream.map_err(|error| self.failed(error))?;
        let oldest = match stream.state.messages {
            0 => Duration::ZERO,
            // The clocks of two machines may differ.
            _ => SystemTime::from(stream.state.first_timestamp)
                .elapsed()
                .unwrap_or_default(),
        };
        Ok(Depth {
            waiting: total.saturating_sub(taken),
            taken,
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
        let subject = format!("{FAILED}.{}", record.component);
        let published = stores.publish(subject, message).await;
        published.map_err(|error| self.failed(error))
    }

    /// Asks the workers to call back about a job that has ended.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn call_back(&self, id: Uuid, component: &str) -> Result<(), Error> {
        let subject = format!("{}.{component}", stores::CALLBACKS);
        self.publish_id(subject, id).await
    }

    /// Returns the jobs of a component whose callbacks are due, for a worker.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn callbacks(&self, component: &str) -> Result<Worker, Error> {
        let config = pull::Config {
            durable_name: Some(component.to_owned()),
            ack_wait: CALLBACK_ACK_WAIT,
            filter_subject: format!("{}.{component}", stores::CALLBACKS),
            ..unlimited()
        };
        let worker = Worker::new(&self.stores().await?.callbacks, config).await;
        worker.map_err(|error| self.failed(error))
    }
}

/// Returns the settings of a consumer whose workers count the attempts: the server would leave a job in the stream without a word.
fn unlimited() -> pull::Config {
    pull::Config {
        ack_policy: AckPolicy::Explicit,
        max_deliver: -1,
        max_ack_pending: -1,
        ..pull::Config::default()
    }
}

fn subject(priority: Priority, component: &str) -> String {
    format!("{NAME}.{}.{component}", priority.token())
}

fn consumer_name(component: &str, priority: Priority) -> String {
    format!("{}_{component}", priority.token())
}

fn response_name(id: Uuid) -> String {
    format!("{id}.response")
}

fn json(record: &Record) -> Bytes {
    serde_json::to_vec(record)
        .expect("strings, numbers and JSON always have a JSON form")
        .into()
}
