//! Runs the part of Flux that the store's scripts use. Anything else is an error, as it would be in InfluxDB.

use super::server::{State, Value};

/// Rows of one series, or of one group.
#[derive(Clone, Default)]
struct Table {
    rows: Vec<Value>,
}

/// Runs a script, and returns the results as CSV without annotations, with a header for each table.
pub fn run(script: &str, state: &State) -> Result<String, String> {
    let mut rest = script;
    let mut imported = false;
    if let Some(after) = rest.strip_prefix("import \"types\"\n\n") {
        imported = true;
        rest = after;
    }
    // Stages that begin with a pipe continue a statement.
    let mut statements: Vec<String> = Vec::new();
    for line in rest.lines() {
        match line.strip_prefix("  |> ") {
            Some(stage) => {
                let statement = statements.last_mut().ok_or("a pipe without a source")?;
                statement.push_str(" |> ");
                statement.push_str(stage);
            }
            None => statements.push(line.to_owned()),
        }
    }
    let mut variables: Vec<(String, Vec<Table>)> = Vec::new();
    let mut csv = String::new();
    for statement in statements {
        let (name, pipe) = match statement.split_once(" = ") {
            Some((name, pipe)) if name.chars().all(char::is_alphanumeric) => (Some(name), pipe),
            _ => (None, &*statement),
        };
        let mut stages = split_stages(pipe).into_iter();
        let source = stages.next().ok_or("an empty statement")?;
        let mut tables =
            match argument(&source, "from(bucket: ") {
                Some(bucket) => {
                    let mut filters = Vec::new();
                    let range = stages.next().ok_or("from without range")?;
                    while stages.as_slice().first().is_some_and(|stage| {
                        stage.contains("r._measurement") || stage.contains("r[\"")
                    }) {
                        filters.push(stages.next().unwrap());
                    }
                    from(state, &string(bucket)?, &range, &filters)?
                }
                None => {
                    let known = variables.iter().find(|(name, _)| *name == source);
                    known
                        .ok_or(format!("undefined identifier {source}"))?
                        .1
                        .clone()
                }
            };
        let mut yielded = None;
        for stage in stages {
            if stage.contains("types.") && !imported {
                return Err("undefined identifier types".into());
            }
            match argument(&stage, "yield(name: ") {
                Some(name) => yielded = Some(string(name)?),
                None => tables = apply(&stage, tables)?,
            }
        }
        match (name, yielded) {
            (Some(name), None) => variables.push((name.to_owned(), tables)),
            (None, Some(name)) => {
                for (index, table) in tables.iter().enumerate() {
                    csv.push_str(",result,table,_value\r\n");
                    for row in &table.rows {
                        let value = match row {
                            Value::Float(number) => number.to_string(),
                            Value::Integer(number) => number.to_string(),
                            other => return Err(format!("a result of {other:?}")),
                        };
                        csv.push_str(&format!(",{name},{index},{value}\r\n"));
                    }
                    csv.push_str("\r\n");
                }
            }
            _ => return Err("a statement must define or yield".into()),
        }
    }
    if csv.is_empty() {
        csv.push_str("\r\n");
    }
    Ok(csv)
}

/// Splits at pipes outside of strings.
fn split_stages(pipe: &str) -> Vec<String> {
    let mut stages = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    let mut rest = pipe;
    while let Some(c) = rest.chars().next() {
        if !quoted && rest.starts_with(" |> ") {
            stages.push(String::new());
            rest = &rest[4..];
            continue;
        }
        if !escaped && c == '"' {
            quoted = !quoted;
        }
        escaped = quoted && !escaped && c == '\\';
        stages.last_mut().unwrap().push(c);
        rest = &rest[c.len_utf8()..];
    }
    stages
}

fn argument<'s>(stage: &'s str, call: &str) -> Option<&'s str> {
    stage.strip_prefix(call)?.strip_suffix(')')
}

/// The value of a string literal, by the lexical rules of Flux.
fn string(literal: &str) -> Result<String, String> {
    let inner = literal
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or(format!("not a string: {literal}"))?;
    let mut text = String::new();
    let mut rest = inner.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            ('\\', _) => match (rest.next(), rest.peek()) {
                (Some(c @ ('\\' | '"')), _) => text.push(c),
                (Some('n'), _) => text.push('\n'),
                (Some('r'), _) => text.push('\r'),
                (Some('t'), _) => text.push('\t'),
                (Some('$'), Some('{')) => text.push('$'),
                _ => return Err(format!("an unknown escape in {literal}")),
            },
            ('"', _) => return Err(format!("a quote in {literal}")),
            ('$', Some('{')) => return Err(format!("an interpolation in {literal}")),
            _ => text.push(c),
        }
    }
    Ok(text)
}

fn from(
    state: &State,
    bucket: &str,
    range: &str,
    filters: &[String],
) -> Result<Vec<Table>, String> {
    if !state.buckets.contains_key(bucket) {
        return Err(format!("could not find bucket \"{bucket}\""));
    }
    let bounds = argument(range, "range(").ok_or("no range")?;
    let (start, stop) = bounds.split_once(", ").ok_or("no stop")?;
    let time = |text: &str, name: &str| -> Result<i64, String> {
        let nanoseconds = text
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(": time(v: "))
            .and_then(|rest| rest.strip_suffix(')'));
        let nanoseconds = nanoseconds.ok_or("no time")?;
        nanoseconds.parse().map_err(|_| "not a time".to_owned())
    };
    let (start, stop) = (time(start, "start")?, time(stop, "stop")?);
    let mut wanted = (String::new(), String::new());
    let mut tags = Vec::new();
    for filter in filters {
        let predicate = argument(filter, "filter(fn: (r) => ").ok_or("no filter")?;
        if let Some(rest) = predicate.strip_prefix("r._measurement == ") {
            let (measurement, field) = rest.split_once(" and r._field == ").ok_or("no field")?;
            wanted = (string(measurement)?, string(field)?);
        } else {
            let rest = predicate.strip_prefix("r[").ok_or("an unknown filter")?;
            let (key, value) = rest.split_once("] == ").ok_or("an unknown filter")?;
            tags.push((string(key)?, string(value)?));
        }
    }
    let mut tables: std::collections::BTreeMap<_, Table> = Default::default();
    for ((series, time), fields) in &state.points {
        let has_tags = tags.iter().all(|tag| series.1.contains(tag));
        if series.0 == wanted.0
            && has_tags
            && (start..stop).contains(time)
            && let Some(value) = fields.get(&wanted.1)
        {
            tables.entry(series).or_default().rows.push(value.clone());
        }
    }
    Ok(tables.into_values().collect())
}

fn apply(stage: &str, tables: Vec<Table>) -> Result<Vec<Table>, String> {
    let is_numeric = |value: &Value| matches!(value, Value::Float(_) | Value::Integer(_));
    let each = |change: &dyn Fn(Vec<Value>) -> Result<Vec<Value>, String>| {
        let tables = tables.iter().cloned();
        tables
            .map(|table| {
                Ok(Table {
                    rows: change(table.rows)?,
                })
            })
            .collect::<Result<Vec<_>, String>>()
    };
    let keep = |numeric: bool| {
        let mut kept = each(&|rows| {
            Ok(rows
                .into_iter()
                .filter(|row| is_numeric(row) == numeric)
                .collect())
        })?;
        kept.retain(|table| !table.rows.is_empty());
        Ok(kept)
    };
    match stage {
        "filter(fn: (r) => types.isNumeric(v: r._value))" => keep(true),
        "filter(fn: (r) => not types.isNumeric(v: r._value))" => keep(false),
        "count()" => each(&|rows| Ok(vec![Value::Integer(rows.len() as i64)])),
        "toFloat()" => each(&|rows| {
            let floats = rows.into_iter().map(|row| match row {
                Value::Float(number) => Ok(Value::Float(number)),
                Value::Integer(number) => Ok(Value::Float(number as f64)),
                other => Err(format!("cannot convert {other:?} to float")),
            });
            floats.collect()
        }),
        "keep(columns: [\"_value\"])" => Ok(tables),
        "group()" => {
            let rows: Vec<Value> = tables.into_iter().flat_map(|table| table.rows).collect();
            let is_mixed = rows
                .windows(2)
                .any(|two| std::mem::discriminant(&two[0]) != std::mem::discriminant(&two[1]));
            if is_mixed {
                return Err("schema collision: cannot group types together".into());
            }
            Ok(if rows.is_empty() {
                Vec::new()
            } else {
                vec![Table { rows }]
            })
        }
        "sum()" => each(&|rows| {
            let mut floats = 0.0;
            let mut integers = 0;
            for row in &rows {
                match row {
                    Value::Float(number) => floats += number,
                    Value::Integer(number) => integers += number,
                    other => return Err(format!("cannot sum {other:?}")),
                }
            }
            Ok(vec![match rows.first() {
                Some(Value::Integer(_)) => Value::Integer(integers),
                _ => Value::Float(floats),
            }])
        }),
        "sort()" => each(&|mut rows| {
            rows.sort_by(|a, b| match (a, b) {
                (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
                other => panic!("{other:?}"),
            });
            Ok(rows)
        }),
        _ => {
            let bounds = argument(stage, "limit(n: ").ok_or(format!("undefined: {stage}"))?;
            let (n, offset) = bounds.split_once(", offset: ").ok_or("no offset")?;
            let (n, offset): (usize, usize) = (
                n.parse().map_err(|_| "not a number")?,
                offset.parse().map_err(|_| "not a number")?,
            );
            each(&|rows| Ok(rows.into_iter().skip(offset).take(n).collect()))
        }
    }
}
