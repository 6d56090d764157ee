//! The registry of metrics recorded by `metrics`' macros, readable by name and labels.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Label, Metadata, Recorder, SharedString,
    Unit,
};
use metrics_util::registry::{Registry, Storage};

use crate::buckets::bounds;

/// The metrics of a process or a test. Clones share their values.
#[derive(Clone)]
pub struct Metrics(Arc<Recorded>);

pub(crate) struct Recorded {
    pub(crate) registry: Registry<Key, Atomics>,
    /// What each metric measures, by its name.
    descriptions: Mutex<BTreeMap<String, SharedString>>,
}

/// Summary of the values that a histogram has recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Distribution {
    /// Their number.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Their maximum; 0 if there are none.
    pub max: f64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Recorded {
            registry: Registry::new(Atomics),
            descriptions: Mutex::default(),
        }))
    }
}

impl Metrics {
    /// Creates the registry and makes it the recorder of this process.
    ///
    /// # Errors
    /// When the process already has a recorder.
    pub fn install() -> anyhow::Result<Self> {
        let metrics = Self::default();
        metrics::set_global_recorder(metrics.clone())
            .ok()
            .context("the process already has a recorder of metrics")?;
        metrics_process::Collector::default().describe();
        Ok(metrics)
    }

    /// Returns the value of a counter; 0 if there is none.
    #[must_use]
    pub fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> u64 {
        let counter = self.0.registry.get_counter(&key(name, labels));
        counter.map_or(0, |counter| counter.load(Relaxed))
    }

    /// Returns the value of a gauge; 0 if there is none.
    #[must_use]
    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> f64 {
        let gauge = self.0.registry.get_gauge(&key(name, labels));
        gauge.map_or(0.0, |gauge| f64::from_bits(gauge.load(Relaxed)))
    }

    /// Returns the summary of a histogram.
    #[must_use]
    pub fn histogram(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Distribution {
        let histogram = self.0.registry.get_histogram(&key(name, labels));
        histogram.map_or_else(Distribution::default, |histogram| histogram.read().0)
    }

    /// Removes all metrics with a label. Existing handles still record, but are no longer read.
    pub fn remove(&self, label: &'static str, value: &str) {
        let keep = |key: &Key| {
            let mut labels = key.labels();
            !labels.any(|other| other.key() == label && other.value() == value)
        };
        self.0.registry.retain_counters(|key, _| keep(key));
        self.0.registry.retain_gauges(|key, _| keep(key));
        self.0.registry.retain_histograms(|key, _| keep(key));
    }
}

impl Metrics {
    fn describe(&self, name: &KeyName, description: SharedString) {
        let mut descriptions = self.descriptions();
        descriptions.insert(name.as_str().to_owned(), description);
    }

    pub(crate) fn registry(&self) -> &Registry<Key, Atomics> {
        &self.0.registry
    }

    pub(crate) fn descriptions(&self) -> MutexGuard<'_, BTreeMap<String, SharedString>> {
        let descriptions = self.0.descriptions.lock();
        descriptions.unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels = labels
        .iter()
        .map(|(name, value)| Label::new(*name, (*value).to_owned()));
    Key::from_parts(name, labels.collect::<Vec<_>>())
}

impl Recorder for Metrics {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&name, description);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&name, description);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&name, description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let registry = &self.0.registry;
        registry.get_or_create_counter(key, |counter| Arc::clone(counter).into())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let registry = &self.0.registry;
        registry.get_or_create_gauge(key, |gauge| Arc::clone(gauge).into())
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let registry = &self.0.registry;
        registry.get_or_create_histogram(key, |histogram| Arc::clone(histogram).into())
    }
}

/// Stores each value in an atomic, and a histogram as its [`Distribution`] and buckets: `metrics-util`'s own histograms store every
/// value until they are drained.
pub(crate) struct Atomics;

impl Storage<Key> for Atomics {
    type Counter = Arc<AtomicU64>;
    type Gauge = Arc<AtomicU64>;
    type Histogram = Arc<LockedDistribution>;

    fn counter(&self, _: &Key) -> Self::Counter {
        Arc::default()
    }

    fn gauge(&self, _: &Key) -> Self::Gauge {
        Arc::default()
    }

    fn histogram(&self, key: &Key) -> Self::Histogram {
        let bounds = bounds(key.name());
        Arc::new(LockedDistribution {
            bounds,
            values: Mutex::new((Distribution::default(), vec![0; bounds.len()])),
        })
    }
}

pub(crate) struct LockedDistribution {
    pub(crate) bounds: &'static [f64],
    /// With the number of values in each bucket: those up to its bound, but above the one before.
    values: Mutex<(Distribution, Vec<u64>)>,
}

impl LockedDistribution {
    pub(crate) fn read(&self) -> (Distribution, Vec<u64>) {
        let values = self.values.lock();
        values.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl HistogramFn for LockedDistribution {
    fn record(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, buckets) = &mut *values;
        all.count += 1;
        all.sum += value;
        all.max = all.max.max(value);
        if let Some(count) = buckets.get_mut(bucket) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Distribution, Metrics};

    #[test]
    fn recorded_metrics_are_read_by_name_and_labels() {
        let metrics = Metrics::default();
        metrics::with_local_recorder(&metrics, || {
            metrics::counter!("calls_total", "component" => "a").increment(2);
            metrics::counter!("calls_total", "component" => "b").increment(1);
            metrics::gauge!("calls_active").set(3.0);
            let durations = metrics::histogram!("duration_seconds", "component" => "a");
            durations.record(0.5);
            durations.record(0.25);
        });
        assert_eq!(metrics.counter("calls_total", &[("component", "a")]), 2);
        assert_eq!(metrics.counter("calls_total", &[("component", "b")]), 1);
        assert_eq!(metrics.counter("calls_total", &[]), 0);
        assert_eq!(metrics.gauge("calls_active", &[]), 3.0);
        let expected = Distribution {
            count: 2,
            sum: 0.75,
            max: 0.5,
        };
        let durations = metrics.histogram("duration_seconds", &[("component", "a")]);
        assert_eq!(durations, expected);
    }

    #[test]
    fn metrics_with_a_label_are_removed_and_start_again() {
        let metrics = Metrics::default();
        let count = |component: &'static str| {
            metrics::with_local_recorder(&metrics, || {
                metrics::counter!("calls_total", "component" => component).increment(1);
            });
            metrics.counter("calls_total", &[("component", component)])
        };
        assert_eq!((count("a"), count("b")), (1, 1));
        metrics.remove("component", "a");
        assert_eq!((count("a"), count("b")), (1, 2));
    }
}
