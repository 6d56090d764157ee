//! Jobs as clients see them.

use queue::jobs::{Record, State};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// A job, as JSON.
#[derive(Serialize)]
pub(super) struct View<'a> {
    id: Uuid,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
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
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RawValue>,
}

impl<'a> View<'a> {
    /// Returns the view of a job. `long` is its result, if that is not in the record.
    pub(super) fn new(id: Uuid, record: &'a Record, long: Option<&'a RawValue>) -> Self {
        let (status, progress, result, error) = match &record.state {
            State::Queued => ("queued", None, None, None),
            State::Running { progress } => ("running", Some(*progress), None, None),
            State::Done { result } => ("done", None, result.as_deref().or(long), None),
            State::Failed { error } => ("failed", None, None, Some(&**error)),
            State::Cancelled => ("cancelled", None, None, None),
        };
        Self {
            id,
            status,
            created: record.created,
            attempts: record.attempts,
            progress,
            result,
            error,
        }
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and JSON always have a JSON form")
    }
}
