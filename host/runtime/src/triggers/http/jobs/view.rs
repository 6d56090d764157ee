//! Jobs as clients see them.

use std::collections::HashMap;

use queue::jobs::{Record, State};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// A job, as JSON.
#[derive(Serialize)]
pub(super) struct View {
    id: Uuid,
    status: &'static str,
    /// When it was created, in milliseconds since 1970.
    created: u64,
    /// How often it was started.
    attempts: u32,
    /// Seconds of audio that are transcribed.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<f64>,
    /// What a request would be answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Box<RawValue>>,
}

impl View {
    /// Returns the view of a job. `long` is the body of its response, if that is not in the record.
    pub(super) fn new(id: Uuid, record: &Record, long: Option<String>) -> Self {
        let response = record.state.response();
        let body = response.and_then(|response| response.body.clone());
        let body = body.or(long).map(as_json);
        let mut view = Self {
            id,
            status: status(&record.state),
            created: record.created,
            attempts: record.attempts,
            progress: None,
            result: None,
            error: None,
        };
        match &record.state {
            State::Running { progress } => view.progress = Some(*progress),
            State::Done(_) => view.result = body,
            State::Failed(_) => {
                view.error = body.map(|body| member(&body, "error").unwrap_or(body));
            }
            State::Queued | State::Cancelled => {}
        }
        view
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and JSON always have a JSON form")
    }
}

/// Returns the name of a state.
pub(super) fn status(state: &State) -> &'static str {
    match state {
        State::Queued => "queued",
        State::Running { .. } => "running",
        State::Done(_) => "done",
        State::Failed(_) => "failed",
        State::Cancelled => "cancelled",
    }
}

/// Returns JSON as it is, and other text as a string.
fn as_json(body: String) -> Box<RawValue> {
    serde_json::from_str(&body).unwrap_or_else(|_| {
        serde_json::value::to_raw_value(&body).expect("a string always has a JSON form")
    })
}

/// Returns a member of a JSON object.
fn member(json: &RawValue, name: &str) -> Option<Box<RawValue>> {
    let mut members: HashMap<String, Box<RawValue>> = serde_json::from_str(json.get()).ok()?;
    members.remove(name)
}
