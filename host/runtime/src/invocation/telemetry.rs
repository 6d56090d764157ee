//! Telemetry of components.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::lines::Lines;
use super::metrics::Metrics;

/// Metrics and output of a component.
#[derive(Default)]
pub(crate) struct Telemetry {
    pub(crate) metrics: Metrics,
    pub(crate) lines: Lines,
}

/// The telemetry of all components, by id. It outlives revisions, and ends with the component's removal.
#[derive(Default)]
pub(crate) struct Registry(Mutex<HashMap<String, Weak<Telemetry>>>);

impl Registry {
    pub(crate) fn of(&self, id: &str) -> Arc<Telemetry> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, telemetry| telemetry.strong_count() > 0);
        if let Some(telemetry) = all.get(id).and_then(Weak::upgrade) {
            return telemetry;
        }
        let telemetry = Arc::default();
        all.insert(id.to_owned(), Arc::downgrade(&telemetry));
        telemetry
    }
}
