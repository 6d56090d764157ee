//! Points in line protocol.
//!
//! Written by the crate `influxdb2`, but for what it leaves out: backslashes in string fields, and what the protocol has no form for.
//! The rules are those of [line protocol] and of InfluxDB's parser.
//!
//! [line protocol]: https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/

use influxdb2::models::{DataPoint, FieldValue, WriteDataPoint as _};

use crate::{Point, Value};

/// The largest time of a point, in nanoseconds since 1970 (`MaxNanoTime` in InfluxDB).
pub(super) const MAX_TIME: u64 = i64::MAX as u64 - 1;

/// Longest key of a series: the measurement and all tags, with their escapes.
const MAX_SERIES_KEY: usize = 65_535;
/// Longest string field.
const MAX_TEXT: usize = 65_536;

/// Checks that the protocol has a form for the point. The error is the first rule it violates.
pub(super) fn check(point: &Point) -> Result<(), String> {
    let measurement = &point.measurement;
    check_name("the measurement", measurement)?;
    if measurement.starts_with('#') {
        return Err(format!(
            "the measurement {measurement:?} starts with `#`, which InfluxDB takes for a comment"
        ));
    }
    let mut length = measurement.len();
    for (key, value) in &point.tags {
        check_key("tag", key)?;
        check_name(&format!("the value of tag `{key}`"), value)?;
        length += key.len() + value.len() + 2;
    }
    // Each character may be escaped.
    if 2 * length > MAX_SERIES_KEY {
        return Err(format!(
            "the measurement and the tags have {length} bytes; InfluxDB takes {}",
            MAX_SERIES_KEY / 2
        ));
    }
    for (key, value) in &point.fields {
        check_key("field", key)?;
        if point.tags.iter().any(|(tag, _)| tag == key) {
            return Err(format!("`{key}` is both a tag and a field"));
        }
        if let Value::Text(text) = value
            && text.len() > MAX_TEXT
        {
            return Err(format!(
                "field `{key}` has {} bytes; InfluxDB takes {MAX_TEXT}",
                text.len()
            ));
        }
    }
    Ok(())
}

fn check_key(kind: &str, key: &str) -> Result<(), String> {
    if key == "time" || key.starts_with('_') {
        return Err(format!("{kind} `{key}`: InfluxDB reserves this name"));
    }
    check_name(&format!("the key of {kind} `{key}`"), key)
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("{what} is empty, which InfluxDB does not take"));
    }
    // The parser takes it for the escape of what follows, and has no escape for the backslash itself.
    let is_ambiguous = |(at, _): (usize, _)| {
        let next = name[at + 1..].chars().next();
        next.is_none_or(|next| matches!(next, ',' | '=' | ' ' | '"' | '\\'))
    };
    if name.match_indices('\\').any(is_ambiguous) {
        return Err(format!(
            "{what} has a backslash before a comma, an equals sign, a space, a quote or another backslash, or at its end; InfluxDB has no form for it"
        ));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!(
            "{what} has the control character {c:?}, which InfluxDB does not take"
        )),
        None => Ok(()),
    }
}

/// Appends the point as a line. It has passed [`check`], and has a time.
pub(super) fn write(lines: &mut Vec<u8>, point: &Point) {
    let mut builder = DataPoint::builder(point.measurement.as_str());
    for (key, value) in &point.tags {
        builder = builder.tag(key, value);
    }
    for (key, value) in &point.fields {
        let value = match value {
            Value::Float(number) => FieldValue::F64(*number),
            Value::Integer(number) => FieldValue::I64(*number),
            // The crate escapes quotes only.
            Value::Text(text) => FieldValue::String(text.replace('\\', r"\\")),
            Value::Boolean(truth) => FieldValue::Bool(*truth),
        };
        builder = builder.field(key, value);
    }
    if let Some(time) = point.time.and_then(|time| i64::try_from(time).ok()) {
        builder = builder.timestamp(time);
    }
    builder
        .build()
        .expect("a point has a field")
        .write_data_point_to(lines)
        .expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests;
