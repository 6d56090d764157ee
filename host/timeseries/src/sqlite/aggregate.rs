//! Queries as SQL. The database computes the aggregates.

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Transaction, params_from_iter};

use super::kind::INTEGER;
use super::rollup::Bucket;
use crate::{Aggregation, Error, Query};

/// Runs a query. The outer error is the database's, the inner one the query's.
pub(super) fn aggregate(
    connection: &mut Connection,
    query: &Query,
) -> rusqlite::Result<Result<Option<f64>, Error>> {
    // One transaction, so that all reads see the same snapshot.
    let transaction = connection.transaction()?;
    let Some(selection) = Selection::find(&transaction, query)? else {
        return Ok(Ok(without_values(query.aggregation)));
    };
    let totals = selection.totals()?;
    if query.aggregation != Aggregation::Count && totals.numbers < totals.count {
        return Ok(Err(Error::not_numeric(&query.measurement, &query.field)));
    }
    if totals.count == 0 {
        return Ok(Ok(without_values(query.aggregation)));
    }
    let share = match query.aggregation {
        Aggregation::Count => return Ok(Ok(Some(totals.count as f64))),
        Aggregation::Sum => return Ok(Ok(Some(totals.sum))),
        Aggregation::Mean => return Ok(Ok(Some(totals.sum / totals.count as f64))),
        Aggregation::Min => 0.0,
        Aggregation::Max => 1.0,
        Aggregation::Median => 0.5,
        Aggregation::Quantile(share) => share,
    };
    selection.quantile(share, totals.count).map(Ok)
}

fn without_values(aggregation: Aggregation) -> Option<f64> {
    matches!(aggregation, Aggregation::Count | Aggregation::Sum).then_some(0.0)
}

/// Returns the totals of the values that a query selects.
pub(super) fn totals(connection: &mut Connection, query: &Query) -> rusqlite::Result<Totals> {
    let transaction = connection.transaction()?;
    let selection = Selection::find(&transaction, query)?;
    selection.map_or_else(|| Ok(Totals::default()), |selection| selection.totals())
}

/// Returns the numbers that a query selects.
pub(super) fn numbers(connection: &mut Connection, query: &Query) -> rusqlite::Result<Vec<f64>> {
    let transaction = connection.transaction()?;
    let Some(selection) = Selection::find(&transaction, query)? else {
        return Ok(Vec::new());
    };
    let columns = "CAST(value AS REAL) FROM value INDEXED BY value_by_time";
    let is_number = Condition {
        sql: format!("kind <= {INTEGER}"),
        parameters: Vec::new(),
    };
    let conditions = [Some(&is_number), selection.time.as_ref()];
    selection.select(columns, conditions, "", [], |row| row.get(0))
}

/// Totals of values.
#[derive(Default)]
pub(crate) struct Totals {
    pub count: i64,
    /// Those that are numbers.
    pub numbers: i64,
    /// Sum of the numbers.
    pub sum: f64,
}

/// A condition and the values of its parameters, in order.
struct Condition {
    sql: String,
    parameters: Vec<SqlValue>,
}

/// The values that a query selects.
struct Selection<'a> {
    transaction: &'a Transaction<'a>,
    /// Condition on field and series, which are columns of every table.
    series: Condition,
    /// Condition on time. None: all time, which the rolling aggregates cover.
    time: Option<Condition>,
}

impl<'a> Selection<'a> {
    /// `None` if there are no values of the field.
    fn find(transaction: &'a Transaction<'a>, query: &Query) -> rusqlite::Result<Option<Self>> {
        let field: Option<i64> = transaction
            .prepare_cached("SELECT id FROM field WHERE measurement = ?1 AND name = ?2")?
            .query_row([&query.measurement, &query.field], |row| row.get(0))
            .optional()?;
        Ok(field.map(|field| Self::new(transaction, field, query)))
    }

    fn new(transaction: &'a Transaction<'a>, field: i64, query: &Query) -> Self {
        let mut series = Condition {
            sql: "field = ?".into(),
            parameters: vec![SqlValue::from(field)],
        };
        for (key, value) in &query.tags {
            series
                .sql
                .push_str(" AND series IN (SELECT series FROM tag WHERE key = ? AND value = ?)");
            series
                .parameters
                .extend([key, value].map(|text| SqlValue::from(text.clone())));
        }
        // Clamp bounds beyond the largest time of a point.
        let clamp = |bound: u64| SqlValue::from(i64::try_from(bound).unwrap_or(i64::MAX));
        let bounds = [("time >= ?", query.start), ("time < ?", query.stop)];
        let bounds = bounds
            .into_iter()
            .filter_map(|(sql, bound)| Some((sql, clamp(bound?))));
        let (sql, parameters): (Vec<_>, Vec<_>) = bounds.unzip();
        let time = (!sql.is_empty()).then(|| Condition {
            sql: sql.join(" AND "),
            parameters,
        });
        Self {
            transaction,
            series,
            time,
        }
    }

    fn totals(&self) -> rusqlite::Result<Totals> {
        let columns = match &self.time {
            None => "total(count), total(numbers), total(sum) FROM total".into(),
            // `total` gives floats: a sum of integers could overflow.
            Some(_) => format!(
                "count(*), total(kind <= {INTEGER}), total(CASE WHEN kind <= {INTEGER} THEN value END)
                 FROM value INDEXED BY value_by_time"
            ),
        };
        self.select(&columns, [self.time.as_ref()], "", [], |row| {
            Ok(Totals {
                count: row.get::<_, f64>(0)? as i64,
                numbers: row.get::<_, f64>(1)? as i64,
                sum: row.get(2)?,
            })
        })
        .map(|rows| rows.into_iter().next().expect("an aggregate is one row"))
    }

    /// Returns the value at rank `share * (count - 1)`, linearly interpolated.
    fn quantile(&self, share: f64, count: i64) -> rusqlite::Result<Option<f64>> {
        let rank = share * (count - 1) as f64;
        let (below, fraction) = (rank.floor() as i64, rank.fract());
        let neighbours = match &self.time {
            Some(time) => self.select(
                "CAST(value AS REAL) FROM value INDEXED BY value_by_time",
                [Some(time)],
                "ORDER BY value LIMIT 2 OFFSET ?",
                [below.into()],
                |row| row.get(0),
            )?,
            None if fraction == 0.0 => vec![self.nth(below)?],
            None => vec![self.nth(below)?, self.nth(below + 1)?],
        };
        Ok(match neighbours[..] {
            [lower, upper] => Some(lower + (upper - lower) * fraction),
            [only] => Some(only),
            _ => None,
        })
    }

    /// Returns the number at this rank, from 0, over all time.
    fn nth(&self, mut rank: i64) -> rusqlite::Result<f64> {
        let mut bucket = Bucket::ALL;
        while let Some((first, last)) = bucket.children() {
            let level = bucket.level + 1;
            let among = Condition {
                sql: "level = ? AND bucket BETWEEN ? AND ?".into(),
                parameters: vec![(level as i64).into(), first.into(), last.into()],
            };
            let counts = self.select(
                "bucket, sum(count) FROM bucket",
                [Some(&among)],
                "GROUP BY bucket ORDER BY bucket",
                [],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
            )?;
            let mut found = None;
            for (index, count) in counts {
                found = Some(index);
                if rank < count {
                    break;
                }
                rank -= count;
            }
            bucket = Bucket {
                level,
                index: found.ok_or(rusqlite::Error::QueryReturnedNoRows)?,
            };
        }
        let (lower, upper) = bucket.bounds();
        let within = Condition {
            sql: "value >= ? AND value < ?".into(),
            parameters: vec![lower.into(), upper.into()],
        };
        let number = |order: &str, offset: i64| {
            self.select(
                "CAST(value AS REAL) FROM value INDEXED BY value_by_size",
                [Some(&within)],
                &format!("ORDER BY value {order} LIMIT 1 OFFSET ?"),
                [offset.into()],
                |row| row.get::<_, f64>(0),
            )?
            .pop()
            .ok_or(rusqlite::Error::QueryReturnedNoRows)
        };
        // Avoids stepping over many equal values.
        let least = number("ASC", 0)?;
        if least == number("DESC", 0)? {
            return Ok(least);
        }
        number("ASC", rank)
    }

    /// Selects rows of a table, with additional conditions, and an order with its parameters.
    fn select<'b, T, const N: usize>(
        &self,
        columns: &str,
        and: impl IntoIterator<Item = Option<&'b Condition>>,
        order: &str,
        parameters: [SqlValue; N],
        row: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let mut sql = format!("SELECT {columns} WHERE {}", self.series.sql);
        let mut all: Vec<&SqlValue> = self.series.parameters.iter().collect();
        for and in and.into_iter().flatten() {
            sql.push_str(" AND ");
            sql.push_str(&and.sql);
            all.extend(&and.parameters);
        }
        sql.push(' ');
        sql.push_str(order);
        all.extend(&parameters);
        self.transaction
            .prepare_cached(&sql)?
            .query_map(params_from_iter(all), row)?
            .collect()
    }
}
