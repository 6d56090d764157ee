//! The response of `/stats`. Field names, types and order are part of the public API.

use serde::Serialize;

/// A summary of calls.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    total_calls: u64,
    median_latency: f64,
    #[serde(serialize_with = "in_seconds")]
    average_audio_length: f64,
    /// Seconds of latency, by names such as `p95_latency`.
    #[serde(flatten)]
    percentiles: serde_json::Map<String, serde_json::Value>,
}

impl Summary {
    /// A summary of the number of calls, the median latency and the mean audio length, both in seconds and `None`
    /// if there are no calls. Seconds are rounded to two decimals.
    pub fn new(calls: f64, median_latency: Option<f64>, mean_audio_length: Option<f64>) -> Self {
        Self {
            // A count: whole and not negative, and the cast saturates.
            total_calls: calls as u64,
            median_latency: two_decimals(median_latency.unwrap_or(0.0)),
            average_audio_length: two_decimals(mean_audio_length.unwrap_or(0.0)),
            percentiles: serde_json::Map::new(),
        }
    }

    /// Adds a percentile of the latency in seconds, `None` if there are no calls.
    pub fn add_percentile(&mut self, name: &str, latency: Option<f64>) {
        let latency = two_decimals(latency.unwrap_or(0.0));
        self.percentiles
            .insert(format!("p{name}_latency"), latency.into());
    }

    /// The summary as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings always have a JSON form")
    }
}

fn two_decimals(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

/// Formats seconds with at least one decimal: `11.47s`, `0.0s`.
fn in_seconds<S: serde::Serializer>(seconds: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{seconds:?}s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_matches_the_public_api() {
        let summary = Summary::new(6.0, Some(32.0601), Some(11.4678));
        let expected =
            r#"{"total_calls":6,"median_latency":32.06,"average_audio_length":"11.47s"}"#;
        assert_eq!(summary.to_json(), expected);
    }

    #[test]
    fn percentiles_follow_the_promised_fields() {
        let mut summary = Summary::new(2.0, Some(1.5), Some(2.0));
        summary.add_percentile("95", Some(2.954));
        summary.add_percentile("99.9", None);
        let expected = r#"{"total_calls":2,"median_latency":1.5,"average_audio_length":"2.0s","p95_latency":2.95,"p99.9_latency":0.0}"#;
        assert_eq!(summary.to_json(), expected);
    }

    #[test]
    fn without_calls_all_values_are_zero() {
        let expected = r#"{"total_calls":0,"median_latency":0.0,"average_audio_length":"0.0s"}"#;
        assert_eq!(Summary::new(0.0, None, None).to_json(), expected);
    }

    #[test]
    fn at_least_one_decimal_is_kept() {
        let expected = r#"{"total_calls":1,"median_latency":0.03,"average_audio_length":"12.0s"}"#;
        assert_eq!(
            Summary::new(1.0, Some(0.0349), Some(12.0)).to_json(),
            expected
        );
        let expected = r#"{"total_calls":2,"median_latency":3.0,"average_audio_length":"1.5s"}"#;
        assert_eq!(
            Summary::new(2.0, Some(2.999), Some(1.5)).to_json(),
            expected
        );
    }
}
