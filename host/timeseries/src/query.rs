//! Queries, and the rules they keep.

use crate::Error;
use crate::point::check_keys;

/// How values become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregation {
    /// How many there are, of any type.
    Count,
    /// Their sum.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The arithmetic mean.
    Mean,
    /// The middle one, or the mean of the two middle ones.
    Median,
    /// The value below which this share, 0.0 to 1.0, lies: at rank `share * (n - 1)`, linearly interpolated between
    /// neighbours.
    Quantile(f64),
}

/// Which values to aggregate.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The series.
    pub measurement: String,
    /// A numeric field. For [`Aggregation::Count`], any field.
    pub field: String,
    /// How.
    pub aggregation: Aggregation,
    /// Points at or after this time, in nanoseconds since 1970. None: from the first.
    pub start: Option<u64>,
    /// Points before this time. None: to the last.
    pub stop: Option<u64>,
    /// Only points that carry all of these tags.
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
        check_keys("tag", self.tags.iter().map(|(key, _)| key))
            .map_err(|rule| Error::Invalid(format!("the query's {rule}")))
    }
}
