//! The metrics in Prometheus' text format.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Context as _;
use metrics::Key;
use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::Metrics;

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

impl Metrics {
    /// Renders all metrics in Prometheus' text format, ordered by name and labels.
    ///
    /// # Errors
    /// When a metric has an invalid name.
    pub fn render(&self) -> anyhow::Result<String> {
        let mut families = BTreeMap::new();
        let registry = self.registry();
        for (key, counter) in sorted(registry.get_counter_handles()) {
            let mut value = Counter::default();
            value.set_value(counter.load(Relaxed) as f64);
            self.add(&mut families, &key, MetricType::COUNTER)
                .set_counter(value);
        }
        for (key, gauge) in sorted(registry.get_gauge_handles()) {
            let mut value = Gauge::default();
            value.set_value(f64::from_bits(gauge.load(Relaxed)));
            self.add(&mut families, &key, MetricType::GAUGE)
                .set_gauge(value);
        }
        for (key, histogram) in sorted(registry.get_histogram_handles()) {
            let (all, counts) = histogram.read();
            let mut sum = 0;
            let buckets = histogram.bounds.iter().zip(counts).map(|(bound, count)| {
                sum += count;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(sum);
                bucket
            });
            let mut value = Histogram::default();
            value.set_bucket(buckets.collect());
            value.set_sample_count(all.count);
            value.set_sample_sum(all.sum);
            self.add(&mut families, &key, MetricType::HISTOGRAM)
                .set_histogram(value);
        }
        let families: Vec<MetricFamily> = families.into_values().collect();
        TextEncoder::new()
            .encode_to_string(&families)
            .context("cannot render the metrics")
    }

    /// Adds a metric to its family.
    fn add<'f>(
        &self,
        families: &'f mut BTreeMap<String, MetricFamily>,
        key: &Key,
        kind: MetricType,
    ) -> &'f mut Metric {
        let family = families.entry(key.name().to_owned()).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(key.name().to_owned());
            family.set_field_type(kind);
            if let Some(description) = self.descriptions().get(key.name()) {
                family.set_help(description.to_string());
            }
            family
        });
        let labels = key.labels().map(|label| {
            let mut pair = LabelPair::default();
            pair.set_name(label.key().to_owned());
            pair.set_value(label.value().to_owned());
            pair
        });
        let mut metric = Metric::default();
        metric.set_label(labels.collect());
        let metrics = family.mut_metric();
        metrics.push(metric);
        let last = metrics.len() - 1;
        &mut metrics[last]
    }
}

fn sorted<V>(handles: impl IntoIterator<Item = (Key, V)>) -> Vec<(Key, V)> {
    let mut handles: Vec<_> = handles.into_iter().collect();
    handles.sort_by(|(a, _), (b, _)| a.cmp(b));
    handles
}

#[cfg(test)]
mod tests {
    use crate::Metrics;

    /// Compared with the examples of Prometheus' description of the format.
    #[test]
    fn metrics_are_rendered_with_their_descriptions_labels_and_buckets() {
        let metrics = Metrics::default();
        metrics::with_local_recorder(&metrics, || {
            metrics::describe_counter!("calls_total", "Calls of components.");
            metrics::describe_gauge!("calls_active", "Running calls.");
            metrics::describe_histogram!("batch_windows", "Windows per batch.");
            metrics::counter!("calls_total", "component" => "a\"b\\c\nd").increment(2);
            metrics::counter!("calls_total", "component" => "a").increment(1);
            metrics::gauge!("calls_active").set(1.5);
            let windows = metrics::histogram!("batch_windows", "model" => "whisper");
            for value in [1.0, 1.0, 3.0, 128.0, 200.0] {
                windows.record(value);
            }
        });
        let expected = r#"# HELP batch_windows Windows per batch.
# TYPE batch_windows histogram
batch_windows_bucket{model="whisper",le="1"} 2
batch_windows_bucket{model="whisper",le="2"} 2
batch_windows_bucket{model="whisper",le="4"} 3
batch_windows_bucket{model="whisper",le="8"} 3
batch_windows_bucket{model="whisper",le="16"} 3
batch_windows_bucket{model="whisper",le="32"} 3
batch_windows_bucket{model="whisper",le="64"} 3
batch_windows_bucket{model="whisper",le="128"} 4
batch_windows_bucket{model="whisper",le="+Inf"} 5
batch_windows_sum{model="whisper"} 333
batch_windows_count{model="whisper"} 5
# HELP calls_active Running calls.
# TYPE calls_active gauge
calls_active 1.5
# HELP calls_total Calls of components.
# TYPE calls_total counter
calls_total{component="a"} 1
calls_total{component="a\"b\\c\nd"} 2
"#;
        assert_eq!(metrics.render().unwrap(), expected);
    }
}
