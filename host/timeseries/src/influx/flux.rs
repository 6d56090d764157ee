//! Queries as scripts of [Flux], and their results.
//!
//! [Flux]: https://docs.influxdata.com/flux/v0/

use std::fmt::Write as _;

use super::line::MAX_TIME;
use crate::Query;

/// Maximum length of a text of the server's in an error, in bytes.
const MAX_TEXT: usize = 1000;
/// The largest count that is exact as a float.
const MAX_COUNT: f64 = (1_u64 << 53) as f64;

/// Numbers that the server has of a query.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Totals {
    /// Values of any type.
    pub count: f64,
    /// Those that are text, true or false.
    pub others: f64,
    pub sum: f64,
}

/// The script for [`Totals`]. With `count` alone, the others are not computed.
pub(super) fn totals(bucket: &str, query: &Query, count_only: bool) -> String {
    let mut script = String::new();
    if !count_only {
        script.push_str("import \"types\"\n\n");
    }
    select(&mut script, bucket, query);
    // Counts of each series, which have one type whatever the values have.
    script.push_str("values |> count() |> group() |> sum() |> yield(name: \"count\")\n");
    if count_only {
        return script;
    }
    script.push_str(
        "values |> filter(fn: (r) => not types.isNumeric(v: r._value)) |> count() |> group() |> sum() |> yield(name: \"others\")\n",
    );
    numbers(&mut script);
    script.push_str("numbers |> sum() |> yield(name: \"sum\")\n");
    script
}

/// The script for the numbers at `limit` ranks from `offset`, in ascending order.
pub(super) fn ranks(bucket: &str, query: &Query, offset: u64, limit: u64) -> String {
    let mut script = "import \"types\"\n\n".to_owned();
    select(&mut script, bucket, query);
    numbers(&mut script);
    let _ = writeln!(
        script,
        "numbers |> sort() |> limit(n: {limit}, offset: {offset}) |> yield(name: \"ranks\")"
    );
    script
}

/// Defines `values`: a table for each series.
fn select(script: &mut String, bucket: &str, query: &Query) {
    let time = |bound: u64| bound.min(MAX_TIME);
    let start = time(query.start.unwrap_or(0));
    let stop = time(query.stop.unwrap_or(u64::MAX));
    let _ = writeln!(
        script,
        "values = from(bucket: {})\n  |> range(start: time(v: {start}), stop: time(v: {stop}))",
        text(bucket)
    );
    let _ = writeln!(
        script,
        "  |> filter(fn: (r) => r._measurement == {} and r._field == {})",
        text(&query.measurement),
        text(&query.field)
    );
    for (key, value) in &query.tags {
        let _ = writeln!(
            script,
            "  |> filter(fn: (r) => r[{}] == {})",
            text(key),
            text(value)
        );
    }
}

/// Defines `numbers`: one table of floats.
fn numbers(script: &mut String) {
    script.push_str(
        "numbers = values |> filter(fn: (r) => types.isNumeric(v: r._value)) |> toFloat() |> group() |> keep(columns: [\"_value\"])\n",
    );
}

/// A string literal. `${` would begin an expression.
fn text(text: &str) -> String {
    let mut literal = String::from("\"");
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' | '"' => literal.extend(['\\', c]),
            '$' if rest.peek() == Some(&'{') => literal.push_str("\\$"),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            c => literal.push(c),
        }
    }
    literal.push('"');
    literal
}

/// Maximum length of the result of [`totals`], in bytes: three short tables.
pub(super) const MAX_TOTALS: usize = 4 << 10;

/// Returns the maximum length of the result of [`ranks`], in bytes: a row has less than 64.
pub(super) fn max_ranks(limit: u64) -> usize {
    usize::try_from(limit).map_or(usize::MAX, |limit| {
        limit.saturating_mul(64).saturating_add(4 << 10)
    })
}

/// Reads the result of [`totals`].
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_totals(csv: &[u8]) -> Result<Totals, String> {
    let (mut count, mut others, mut sum) = (None, None, None);
    rows(csv, |name, value| {
        let total = match name {
            "count" => &mut count,
            "others" => &mut others,
            "sum" => &mut sum,
            _ => return Err(unexpected("a result", name)),
        };
        if name != "sum" && !(0.0..=MAX_COUNT).contains(&value) {
            return Err(unexpected("the count", &value.to_string()));
        }
        match total.replace(value) {
            None => Ok(()),
            Some(_) => Err(unexpected("two rows of", name)),
        }
    })?;
    Ok(Totals {
        count: count.unwrap_or_default(),
        others: others.unwrap_or_default(),
        sum: sum.unwrap_or_default(),
    })
}

/// Reads the result of [`ranks`] with this limit.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_ranks(csv: &[u8], limit: u64) -> Result<Vec<f64>, String> {
    let mut values = Vec::new();
    rows(csv, |_, value| {
        values.push(value);
        match values.len() as u64 > limit {
            true => Err("InfluxDB's answer to a query has more rows than were asked for".into()),
            false => Ok(()),
        }
    })?;
    Ok(values)
}

/// Calls `read` with each row of all tables: the name of the result, and the column `_value`.
fn rows(csv: &[u8], mut read: impl FnMut(&str, f64) -> Result<(), String>) -> Result<(), String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(csv);
    let mut columns: Option<(usize, usize)> = None;
    for record in reader.records() {
        let record = record.map_err(|error| unexpected("an error", &error.to_string()))?;
        let find = |name: &str| record.iter().position(|field| field == name);
        // An error while the script runs is a table with this header.
        if let Some(column) = find("error").filter(|_| find("reference").is_some()) {
            let next = reader.records().next().and_then(Result::ok);
            let message = next.as_ref().and_then(|record| record.get(column));
            return Err(format!(
                "InfluxDB cannot run the query: {}",
                beginning(message.unwrap_or("no reason is given"))
            ));
        }
        if let (Some(name), Some(value)) = (find("result"), find("_value")) {
            columns = Some((name, value));
            continue;
        }
        let row = columns.and_then(|(name, value)| Some((record.get(name)?, record.get(value)?)));
        let (name, value) = row.ok_or_else(|| unexpected("a row without", "result, _value"))?;
        let number: Option<f64> = value.parse().ok().filter(|number: &f64| number.is_finite());
        let number = number.ok_or_else(|| unexpected("the value", value))?;
        read(name, number)?;
    }
    Ok(())
}

fn unexpected(what: &str, text: &str) -> String {
    format!(
        "InfluxDB's answer to a query has {what} `{}`",
        beginning(text)
    )
}

/// Returns the beginning of a text of the server's.
fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

#[cfg(test)]
mod tests {
    use super::{Totals, ranks, read_ranks, read_totals, text};
    use crate::{Aggregation, Query};

    #[test]
    fn text_cannot_leave_its_literal() {
        assert_eq!(text(r#"a"b\c${d}"#), r#""a\"b\\c\${d}""#);
        assert_eq!(text("$5 {x}"), r#""$5 {x}""#);
        assert_eq!(text("a\nb\tc"), r#""a\nb\tc""#);
    }

    #[test]
    fn a_script_selects_by_time_field_and_tags() {
        let query = Query {
            measurement: "calls".into(),
            field: "latency".into(),
            aggregation: Aggregation::Median,
            start: Some(5),
            stop: None,
            tags: vec![("outcome".into(), "ok".into())],
        };
        let expected = r#"import "types"

values = from(bucket: "calls")
  |> range(start: time(v: 5), stop: time(v: 9223372036854775806))
  |> filter(fn: (r) => r._measurement == "calls" and r._field == "latency")
  |> filter(fn: (r) => r["outcome"] == "ok")
numbers = values |> filter(fn: (r) => types.isNumeric(v: r._value)) |> toFloat() |> group() |> keep(columns: ["_value"])
numbers |> sort() |> limit(n: 2, offset: 7) |> yield(name: "ranks")
"#;
        assert_eq!(ranks("calls", &query, 7, 2), expected);
    }

    /// The form of the examples in the documentation of annotated CSV.
    #[test]
    fn tables_are_read_by_their_headers() {
        let csv =
            b",result,table,_value\r\n,count,0,3\r\n\r\n,result,table,_value\r\n,sum,0,4.5\r\n\r\n";
        let expected = Totals {
            count: 3.0,
            sum: 4.5,
            ..Totals::default()
        };
        assert_eq!(read_totals(csv), Ok(expected));
        assert_eq!(read_totals(b"\r\n"), Ok(Totals::default()));
        let csv = b",result,table,_value\r\n,ranks,0,1e-7\r\n,ranks,0,2\r\n\r\n";
        assert_eq!(read_ranks(csv, 2), Ok(vec![1e-7, 2.0]));
        assert!(read_ranks(csv, 1).is_err());
    }

    #[test]
    fn an_error_in_the_middle_of_a_result_is_an_error() {
        let csv = b",result,table,_value\r\n,count,0,3\r\n\r\n,error,reference\r\n,\"engine: context canceled\",897\r\n";
        let message = read_totals(csv).unwrap_err();
        assert!(message.contains("engine: context canceled"), "{message}");
        let long = format!(",error,reference\r\n,{},897\r\n", "x".repeat(100_000));
        let message = read_totals(long.as_bytes()).unwrap_err();
        assert!(message.len() < 2_000, "{}", message.len());
    }

    #[test]
    fn a_result_with_repeated_totals_is_an_error() {
        let csv = b",result,table,_value\r\n,sum,0,4.5\r\n,sum,0,1\r\n\r\n";
        assert!(read_totals(csv).is_err());
    }
}
