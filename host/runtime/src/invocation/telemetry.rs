//! Telemetry per component.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::lines::Lines;
use super::metrics::{Metrics, Snapshot};

/// Metrics and output of a component.
pub(crate) struct Telemetry {
    pub(crate) metrics: Metrics,
    pub(crate) lines: Lines,
}

/// The telemetry of all components, by id. It outlives revisions, and is removed with the component.
pub(crate) struct Registry {
    components: Mutex<HashMap<String, Weak<Telemetry>>>,
    metrics: telemetry::Metrics,
}

impl Registry {
    pub(super) fn new(metrics: telemetry::Metrics) -> Self {
        Self {
            components: Mutex::default(),
            metrics,
        }
    }

    pub(super) fn of(&self, id: &str) -> Arc<Telemetry> {
        let mut all = self
            .components
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.retain(|id, telemetry| {
            let exists = telemetry.strong_count() > 0;
            if !exists {
                Metrics::remove(&self.metrics, id);
            }
            exists
        });
        if let Some(telemetry) = all.get(id).and_then(Weak::upgrade) {
            return telemetry;
        }
        let telemetry = Arc::new(Telemetry {
            metrics: Metrics::new(id),
            lines: Lines::default(),
        });
        all.insert(id.to_owned(), Arc::downgrade(&telemetry));
        telemetry
    }

    pub(super) fn metrics(&self) -> &telemetry::Metrics {
        &self.metrics
    }

    pub(super) fn snapshot(&self, id: &str) -> Snapshot {
        Snapshot::read(&self.metrics, id)
    }
}
