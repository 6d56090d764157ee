//! Rolling aggregates, which a query over all time reads instead of every value.
//!
//! `total` has the number of values and their sum for each field and series. `bucket` has the number of values in each of a fixed set
//! of intervals, so the value at any rank is found by adding up intervals and stepping through the values of one. Both change in the
//! transaction that changes the values.

use std::collections::HashMap;

use rusqlite::types::ValueRef;
use rusqlite::{Transaction, params};

use super::kind;

pub(super) const TABLES: &str = "
CREATE TABLE total (
    field INTEGER NOT NULL REFERENCES field (id),
    series INTEGER NOT NULL REFERENCES series (id),
    count INTEGER NOT NULL,         -- values of any kind
    numbers INTEGER NOT NULL,       -- of these, floats and integers
    sum REAL NOT NULL,              -- of the numbers
    PRIMARY KEY (field, series)
) STRICT, WITHOUT ROWID;
CREATE TABLE bucket (
    field INTEGER NOT NULL REFERENCES field (id),
    level INTEGER NOT NULL,
    bucket INTEGER NOT NULL,        -- see Bucket
    series INTEGER NOT NULL REFERENCES series (id),
    count INTEGER NOT NULL,
    PRIMARY KEY (field, level, bucket, series)
) STRICT, WITHOUT ROWID;
";

/// An interval of numbers: those whose 64-bit floating-point representations, mapped to integers in the same order, share their
/// leading bits. With `n` bits of the significand, an interval is `2^-n` of its numbers wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Bucket {
    /// At level 0, all numbers are in one bucket.
    pub level: usize,
    pub index: i64,
}

impl Bucket {
    /// The bucket of all numbers.
    pub const ALL: Self = Self { level: 0, index: 0 };

    /// The number of low bits dropped at each level. A search adds up the buckets of level 1 (4 bits of the significand: 16 buckets
    /// per power of two), then the 64 buckets of level 2 in one of them, each a thousandth of its numbers wide.
    const SHIFTS: [u32; 3] = [64, 48, 42];

    fn of(number: f64, level: usize) -> Self {
        Self {
            level,
            index: to_ordered(number) >> Self::SHIFTS[level],
        }
    }

    /// Returns the smallest number in it and the smallest above it. Not for [`Bucket::ALL`].
    pub fn bounds(self) -> (f64, f64) {
        let shift = Self::SHIFTS[self.level];
        (
            from_ordered(self.index << shift),
            from_ordered((self.index + 1) << shift),
        )
    }

    /// Returns the indices of its first and last bucket of the next level, or `None` at the last level.
    pub fn children(self) -> Option<(i64, i64)> {
        let next = Self::SHIFTS.get(self.level + 1)?;
        if self == Self::ALL {
            return Some((i64::MIN >> next, i64::MAX >> next));
        }
        let bits = Self::SHIFTS[self.level] - next;
        Some((self.index << bits, ((self.index + 1) << bits) - 1))
    }
}

/// Maps a number to an integer such that the order of numbers is preserved.
fn to_ordered(number: f64) -> i64 {
    // Maps -0.0 to 0.0.
    let bits = (number + 0.0).to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

fn from_ordered(integer: i64) -> f64 {
    f64::from_bits((integer ^ (((integer >> 63) as u64) >> 1) as i64) as u64)
}

/// Returns the largest float that is not above the integer, so that both are in the same bucket.
fn floor(integer: i64) -> f64 {
    let nearest = integer as f64;
    if nearest as i128 > i128::from(integer) {
        nearest.next_down()
    } else {
        nearest
    }
}

/// Changes to the rolling aggregates by added and removed values.
#[derive(Default)]
pub(super) struct Changes {
    totals: HashMap<(i64, i64), Total>,
    buckets: HashMap<(i64, i64, Bucket), i64>,
}

#[derive(Default)]
struct Total {
    count: i64,
    numbers: i64,
    sum: f64,
}

impl Changes {
    /// Adds a value, as stored in the table `value`.
    pub fn add(&mut self, field: i64, series: i64, kind: i64, value: ValueRef<'_>) {
        self.change(field, series, kind, value, 1);
    }

    /// Removes a value.
    pub fn remove(&mut self, field: i64, series: i64, kind: i64, value: ValueRef<'_>) {
        self.change(field, series, kind, value, -1);
    }

    fn change(&mut self, field: i64, series: i64, kind: i64, value: ValueRef<'_>, by: i64) {
        let total = self.totals.entry((field, series)).or_default();
        total.count += by;
        let (number, least) = match (kind, value) {
            (kind::FLOAT, ValueRef::Real(number)) => (number, number),
            (kind::INTEGER, ValueRef::Integer(number)) => (number as f64, floor(number)),
            _ => return,
        };
        total.numbers += by;
        total.sum += number * by as f64;
        for level in 1..Bucket::SHIFTS.len() {
            let bucket = Bucket::of(least, level);
            *self.buckets.entry((field, series, bucket)).or_default() += by;
        }
    }

    fn len(&self) -> usize {
        self.buckets.len()
    }

    pub fn apply(self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut add = transaction.prepare_cached(
            "INSERT INTO total (field, series, count, numbers, sum) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET count = count + excluded.count, numbers = numbers + excluded.numbers, sum = sum + excluded.sum",
        )?;
        let mut drop_empty = transaction
            .prepare_cached("DELETE FROM total WHERE field = ?1 AND series = ?2 AND count = 0")?;
        for ((field, series), total) in self.totals {
            add.execute(params![
                field,
                series,
                total.count,
                total.numbers,
                total.sum
            ])?;
            if total.count < 0 {
                drop_empty.execute(params![field, series])?;
            }
        }
        let mut add = transaction.prepare_cached(
            "INSERT INTO bucket (field, level, bucket, series, count) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET count = count + excluded.count",
        )?;
        let mut drop_empty = transaction.prepare_cached(
            "DELETE FROM bucket WHERE field = ?1 AND level = ?2 AND bucket = ?3 AND series = ?4 AND count = 0",
        )?;
        for ((field, series, Bucket { level, index }), count) in self.buckets {
            let level = level as i64;
            add.execute(params![field, level, index, series, count])?;
            if count < 0 {
                drop_empty.execute(params![field, level, index, series])?;
            }
        }
        Ok(())
    }
}

/// Maximum number of entries of [`Changes`] in memory during [`rebuild`].
const MAX_CHANGES: usize = 100_000;

/// Builds the aggregates of all values, for a file that has none.
pub(super) fn rebuild(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut changes = Changes::default();
    let mut values = transaction.prepare("SELECT field, series, kind, value FROM value")?;
    let mut rows = values.query(())?;
    while let Some(row) = rows.next()? {
        changes.add(row.get(0)?, row.get(1)?, row.get(2)?, row.get_ref(3)?);
        if changes.len() > MAX_CHANGES {
            std::mem::take(&mut changes).apply(transaction)?;
        }
    }
    changes.apply(transaction)
}

#[cfg(test)]
mod tests {
    use super::{Bucket, floor, from_ordered, to_ordered};

    #[test]
    fn buckets_preserve_the_order_of_numbers_and_contain_them() {
        let numbers = [
            f64::MIN,
            -1e300,
            -2.5,
            -f64::MIN_POSITIVE,
            -0.0,
            0.0,
            5e-324,
            0.1,
            1.0,
            1.0 + f64::EPSILON,
            3.75,
            1e300,
            f64::MAX,
        ];
        for pair in numbers.windows(2) {
            assert!(to_ordered(pair[0]) <= to_ordered(pair[1]), "{pair:?}");
        }
        for number in numbers {
            assert_eq!(from_ordered(to_ordered(number)), number);
            let [whole, part] = [1, 2].map(|level| Bucket::of(number, level));
            for (lower, upper) in [whole, part].map(Bucket::bounds) {
                assert!(
                    lower <= number && number < upper,
                    "{lower} {number} {upper}"
                );
            }
            let (first, last) = whole.children().unwrap();
            assert!((first..=last).contains(&part.index), "{number}");
            assert_eq!(part.children(), None);
        }
    }

    #[test]
    fn floor_is_never_above_the_integer() {
        for integer in [
            0,
            -1,
            1 << 53,
            (1 << 53) + 1,
            (1 << 53) + 3,
            i64::MAX,
            i64::MIN,
            -((1 << 53) + 1),
        ] {
            let float = floor(integer);
            assert!(float as i128 <= i128::from(integer), "{integer}");
            assert!(
                float.next_up().ceil() as i128 > i128::from(integer),
                "{integer}"
            );
        }
    }
}
