//! Kinds of values, as stored in the tables. The first two are numbers.

pub(super) const FLOAT: i64 = 0;
pub(super) const INTEGER: i64 = 1;
pub(super) const TEXT: i64 = 2;
pub(super) const BOOLEAN: i64 = 3;
