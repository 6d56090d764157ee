//! Points and their validation.

use std::collections::HashSet;
use std::time::SystemTime;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// A field's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Value {
    /// A finite number.
    #[serde(deserialize_with = "exact")]
    Float(f64),
    /// A whole number.
    Integer(i64),
    /// Text; can be counted only.
    Text(String),
    /// True or false; can be counted only.
    Boolean(bool),
}

/// Reads a float from JSON exactly; serde_json's own reading may change the last bit.
fn exact<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let text = <&RawValue>::deserialize(deserializer)?;
    text.get().parse().map_err(D::Error::custom)
}

/// Maximum number of points in one write, as other writes wait for it.
pub const MAX_POINTS: usize = 1000;

/// One point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The series it belongs to. Not empty.
    pub measurement: String,
    /// Nanoseconds since 1970-01-01T00:00:00Z. None: the time of the write.
    pub time: Option<u64>,
    /// Tags to filter by: key and value, with unique keys, at most [`MAX_TAGS`].
    pub tags: Vec<(String, String)>,
    /// Measured values: key and value, with unique keys, at least one.
    pub fields: Vec<(String, Value)>,
}

impl Point {
    /// Checks the point. The error is the first rule it violates.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.measurement.is_empty() {
            return Err("the measurement is empty".into());
        }
        if self.fields.is_empty() {
            return Err("there is no field; give at least one".into());
        }
        if let Some(time) = self.time
            && i64::try_from(time).is_err()
        {
            return Err(format!(
                "time {time} is after the year 2262; give nanoseconds since 1970"
            ));
        }
        check_tags(&self.tags)?;
        check_keys("field", self.fields.iter().map(|(key, _)| key))?;
        for (key, value) in &self.fields {
            if let Value::Float(number) = value
                && !number.is_finite()
            {
                return Err(format!("field `{key}` is {number}, not a finite number"));
            }
        }
        Ok(())
    }
}

/// Maximum number of tags of a point or a query.
pub const MAX_TAGS: usize = 32;

/// Checks the tags of a point or a query.
pub(crate) fn check_tags(tags: &[(String, String)]) -> Result<(), String> {
    if tags.len() > MAX_TAGS {
        return Err(format!("{} tags are more than {MAX_TAGS}", tags.len()));
    }
    check_keys("tag", tags.iter().map(|(key, _)| key))
}

/// Checks that no key is empty or duplicated.
fn check_keys<'a>(kind: &str, keys: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut seen = HashSet::new();
    for key in keys {
        if key.is_empty() {
            return Err(format!("a {kind}'s key is empty"));
        }
        if !seen.insert(key) {
            return Err(format!("{kind} `{key}` is given twice"));
        }
    }
    Ok(())
}

/// Returns the current time in nanoseconds since 1970, as a store keeps it. A clock set before 1970 counts as 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
        })
}
