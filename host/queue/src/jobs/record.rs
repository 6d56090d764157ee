//! The record of a job.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What is known of a job. It changes with its state, and each change is made on top of the last one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The component that runs it.
    pub component: String,
    /// The request that it consists of. Its body is stored separately.
    pub request: Request,
    /// When it was created, in milliseconds since 1970.
    pub created: u64,
    /// How often it was started.
    pub attempts: u32,
    /// Where it stands.
    pub state: State,
}

/// The request of a job, apart from its body.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// Path and query.
    pub path: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
}

/// Where a job stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for a worker, for the first time or after an attempt that failed.
    Queued,
    /// A worker runs it.
    Running {
        /// Seconds of audio that are transcribed.
        progress: f64,
    },
    /// It succeeded.
    Done {
        /// The JSON that a request would be answered with. `None`: it is long, and stored separately.
        result: Option<Box<RawValue>>,
    },
    /// It failed, and is not tried again.
    Failed {
        /// The error that a request would be answered with, with `code` and `message`.
        error: Box<RawValue>,
    },
    /// A client cancelled it.
    Cancelled,
}

impl State {
    /// Whether it will not change any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Queued | Self::Running { .. } => false,
            Self::Done { .. } | Self::Failed { .. } | Self::Cancelled => true,
        }
    }
}

impl Record {
    /// Returns the record of a new job.
    #[must_use]
    pub fn new(component: &str, request: Request) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or(Duration::ZERO).as_millis();
        Self {
            component: component.to_owned(),
            request,
            created: u64::try_from(now).unwrap_or(u64::MAX),
            attempts: 0,
            state: State::Queued,
        }
    }
}
