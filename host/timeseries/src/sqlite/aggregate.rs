//! Queries as SQL. The database does the work; only the answer leaves it.

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Transaction, params_from_iter};

use crate::{Aggregation, Error, Query};

/// Answer a query. The outer error is the database's, the inner one the query's.
pub(super) fn aggregate(
    connection: &mut Connection,
    query: &Query,
) -> rusqlite::Result<Result<Option<f64>, Error>> {
    // One transaction, so that a quantile's count and values are of the same moment.
    let transaction = connection.transaction()?;
    let field: Option<i64> = transaction
        .prepare_cached("SELECT id FROM field WHERE measurement = ?1 AND name = ?2")?
        .query_row([&query.measurement, &query.field], |row| row.get(0))
        .optional()?;
    let Some(field) = field else {
        return Ok(Ok(of_nothing(query.aggregation)));
    };
    let selection = Selection::new(&transaction, field, query)?;
    let value = match query.aggregation {
        Aggregation::Count => return selection.number("count(*)").map(Ok),
        // Real numbers: a sum of integers must not overflow.
        Aggregation::Sum => "total(value)",
        Aggregation::Min => "min(value)",
        Aggregation::Max => "max(value)",
        Aggregation::Mean => "avg(value)",
        Aggregation::Median | Aggregation::Quantile(_) => "count(*)",
    };
    let (number, kind) = selection.number_and_kind(value)?;
    if kind.is_some_and(|kind| kind > 1) {
        return Ok(Err(Error::Invalid(format!(
            "field `{}` of `{}` has values that are no numbers; they can only be counted",
            query.field, query.measurement
        ))));
    }
    let share = match query.aggregation {
        Aggregation::Median => 0.5,
        Aggregation::Quantile(share) => share,
        _ => return Ok(Ok(number)),
    };
    match number {
        Some(count) if count > 0.0 => selection.quantile(share, count).map(Ok),
        _ => Ok(Ok(None)),
    }
}

fn of_nothing(aggregation: Aggregation) -> Option<f64> {
    matches!(aggregation, Aggregation::Count | Aggregation::Sum).then_some(0.0)
}

/// The rows of `value` that a query selects, as a condition with its parameters.
struct Selection<'a> {
    transaction: &'a Transaction<'a>,
    condition: String,
    parameters: Vec<SqlValue>,
}

impl<'a> Selection<'a> {
    fn new(transaction: &'a Transaction<'a>, field: i64, query: &Query) -> rusqlite::Result<Self> {
        let mut condition = String::from("field = ?");
        let mut parameters = vec![SqlValue::from(field)];
        // A bound beyond what a point's time can be is as good as the last one.
        let time = |bound: u64| SqlValue::from(i64::try_from(bound).unwrap_or(i64::MAX));
        if let Some(start) = query.start {
            condition.push_str(" AND time >= ?");
            parameters.push(time(start));
        }
        if let Some(stop) = query.stop {
            condition.push_str(" AND time < ?");
            parameters.push(time(stop));
        }
        for (key, value) in &query.tags {
            condition
                .push_str(" AND series IN (SELECT series FROM tag WHERE key = ? AND value = ?)");
            parameters.push(SqlValue::from(key.clone()));
            parameters.push(SqlValue::from(value.clone()));
        }
        Ok(Self {
            transaction,
            condition,
            parameters,
        })
    }

    fn number(&self, expression: &str) -> rusqlite::Result<Option<f64>> {
        let sql = format!(
            "SELECT CAST({expression} AS REAL) FROM value INDEXED BY value_by_time WHERE {}",
            self.condition
        );
        self.transaction
            .prepare_cached(&sql)?
            .query_row(params_from_iter(&self.parameters), |row| row.get(0))
    }

    /// The expression, and the largest kind among the rows: above 1 where one is no number.
    fn number_and_kind(&self, expression: &str) -> rusqlite::Result<(Option<f64>, Option<i64>)> {
        let sql = format!(
            "SELECT CAST({expression} AS REAL), max(kind) FROM value INDEXED BY value_by_time WHERE {}",
            self.condition
        );
        self.transaction
            .prepare_cached(&sql)?
            .query_row(params_from_iter(&self.parameters), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
    }

    /// The value at rank `share * (count - 1)`, between two neighbours in proportion.
    fn quantile(&self, share: f64, count: f64) -> rusqlite::Result<Option<f64>> {
        let rank = share * (count - 1.0);
        let sql = format!(
            "SELECT CAST(value AS REAL) FROM value INDEXED BY value_by_size WHERE {} ORDER BY value LIMIT 2 OFFSET ?",
            self.condition
        );
        let mut parameters = self.parameters.clone();
        parameters.push(SqlValue::from(rank.floor() as i64));
        let mut statement = self.transaction.prepare_cached(&sql)?;
        let neighbours = statement
            .query_map(params_from_iter(&parameters), |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<f64>>>()?;
        Ok(match neighbours[..] {
            [lower, upper] => Some(lower + (upper - lower) * rank.fract()),
            [only] => Some(only),
            _ => None,
        })
    }
}
