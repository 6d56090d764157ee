//! The registry of metrics recorded by `metrics`' macros, readable by name and labels.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Label, Metadata, Recorder, SharedString,
    Unit,
};
use metrics_util::registry::{Registry, Storage};

/// The metrics of a process or a test. Clones share their values.
#[derive(Clone)]
pub struct Metrics(Arc<Registry<Key, Atomics>>);

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
        Self(Arc::new(Registry::new(Atomics)))
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
        Ok(metrics)
    }

    /// Returns the value of a counter; 0 if there is none.
    #[must_use]
    pub fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> u64 {
        let counter = self.0.get_counter(&key(name, labels));
        counter.map_or(0, |counter| counter.load(Relaxed))
    }

    /// Returns the value of a gauge; 0 if there is none.
    #[must_use]
    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> f64 {
        let gauge = self.0.get_gauge(&key(name, labels));
        gauge.map_or(0.0, |gauge| f64::from_bits(gauge.load(Relaxed)))
    }

    /// Returns the summary of a histogram.
    #[must_use]
    pub fn histogram(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Distribution {
        let histogram = self.0.get_histogram(&key(name, labels));
        histogram.map_or_else(Distribution::default, |histogram| histogram.read())
    }

    /// Removes all metrics with a label. Existing handles still record, but are no longer read.
    pub fn remove(&self, label: &'static str, value: &str) {
        let keep = |key: &Key| {
            let mut labels = key.labels();
            !labels.any(|other| other.key() == label && other.value() == value)
        };
        self.0.retain_counters(|key, _| keep(key));
        self.0.retain_gauges(|key, _| keep(key));
        self.0.retain_histograms(|key, _| keep(key));
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels = labels
        .iter()
        .map(|(name, value)| Label::new(*name, (*value).to_owned()));
    Key::from_parts(name, labels.collect::<Vec<_>>())
}

impl Recorder for Metrics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.0
            .get_or_create_counter(key, |counter| Arc::clone(counter).into())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.0
            .get_or_create_gauge(key, |gauge| Arc::clone(gauge).into())
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.0
            .get_or_create_histogram(key, |histogram| Arc::clone(histogram).into())
    }
}

/// Stores each value in an atomic, and a histogram as its [`Distribution`]: `metrics-util`'s own histograms store every value until
/// they are drained.
struct Atomics;

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

    fn histogram(&self, _: &Key) -> Self::Histogram {
        Arc::default()
    }
}

#[derive(Default)]
struct LockedDistribution(Mutex<Distribution>);

impl LockedDistribution {
    fn read(&self) -> Distribution {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HistogramFn for LockedDistribution {
    fn record(&self, value: f64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.count += 1;
        all.sum += value;
        all.max = all.max.max(value);
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
