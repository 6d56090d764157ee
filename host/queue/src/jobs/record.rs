//! The record of a job.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// What is known of a job. It changes with its state, and each change is made on top of the last one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The component that runs it.
    pub component: String,
    /// Who waits for it.
    pub priority: Priority,
    /// The request that it consists of. Its body is stored separately.
    pub request: Request,
    /// Whom to tell that it has ended.
    pub callback_url: Option<String>,
    /// When it was created, in milliseconds since 1970.
    pub created: u64,
    /// How often it was started.
    pub attempts: u32,
    /// How often it had been delivered when it was started last.
    pub deliveries: u32,
    /// Where it stands.
    pub state: State,
}

/// Who waits for a job. Workers take jobs of each priority independently of the other, so that none waits for jobs of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// A client waits for the response.
    High,
    /// Nobody does: the client asks for it later.
    Low,
}

impl Priority {
    /// All priorities.
    pub const ALL: [Self; 2] = [Self::High, Self::Low];

    /// Returns its token in subjects.
    pub(super) fn token(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Low => "low",
        }
    }
}

/// The request of a job, apart from its body.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its URI, with scheme and authority.
    pub uri: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Whether it has a body.
    pub has_body: bool,
}

/// The response to the request of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body. `None`: it is long, and stored separately.
    pub body: Option<String>,
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
    Done(Response),
    /// It failed, and is not tried again.
    Failed(Response),
    /// A client cancelled it.
    Cancelled,
}

impl State {
    /// Whether it will not change any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Queued | Self::Running { .. } => false,
            Self::Done(_) | Self::Failed(_) | Self::Cancelled => true,
        }
    }

    /// Returns the response, if there is one.
    #[must_use]
    pub fn response(&self) -> Option<&Response> {
        match self {
            Self::Done(response) | Self::Failed(response) => Some(response),
            Self::Queued | Self::Running { .. } | Self::Cancelled => None,
        }
    }
}

impl Record {
    /// Returns the record of a new job.
    #[must_use]
    pub fn new(component: &str, priority: Priority, request: Request) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or(Duration::ZERO).as_millis();
        Self {
            component: component.to_owned(),
            priority,
            request,
            callback_url: None,
            created: u64::try_from(now).unwrap_or(u64::MAX),
            attempts: 0,
            deliveries: 0,
            state: State::Queued,
        }
    }
}
