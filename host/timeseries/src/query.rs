//! Queries and their validation.

use crate::Error;
use crate::point::check_tags;

/// How to aggregate values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregation {
    /// The number of values, of any type.
    Count,
    /// Their sum.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The arithmetic mean.
    Mean,
    /// The middle value, or the mean of the two middle ones.
    Median,
    /// The quantile at this share, 0.0 to 1.0: the value at rank `share * (n - 1)`, linearly interpolated.
    Quantile(f64),
}

/// Which values to aggregate.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The series.
    pub measurement: String,
    /// A numeric field. For [`Aggregation::Count`], any field.
    pub field: String,
    /// How to aggregate them.
    pub aggregation: Aggregation,
    /// Points at or after this time, in nanoseconds since 1970. None: from the first.
    pub start: Option<u64>,
    /// Points before this time. None: up to the last.
    pub stop: Option<u64>,
    /// Only points with all of these tags.
    pub tags: Vec<(String, String)>,
}

impl Query {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.measurement.is_empty() {
            return Err(Error::Invalid("the query's measurement is empty".into()));
        }
        if self.field.is_empty() {
            return Err(Error::Invalid("the query's field is empty".into()));
        }
        if let Aggregation::Quantile(share) = self.aggregation
            && !(0.0..=1.0).contains(&share)
        {
            return Err(Error::Invalid(format!(
                "the quantile's share is {share}, not between 0.0 and 1.0"
            )));
        }
        check_tags(&self.tags).map_err(|rule| Error::Invalid(format!("the query's {rule}")))
    }
}
