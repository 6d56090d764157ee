//! Messages with points, from one store to others: their form in JSON.
//!
//! ```json
//! {"origin": "5e0c…", "points": [{"number": 1, "point": {"measurement": "calls", "time": 1796081680689000000,
//!  "tags": [["outcome", "ok"]], "fields": [["latency", {"float": 1.06}]]}}]}
//! ```

use serde::{Deserialize, Serialize};

use crate::Point;

/// Points of one origin.
#[derive(Serialize, Deserialize)]
pub(crate) struct Message<P> {
    /// The store that has numbered the points.
    pub origin: String,
    /// In the order of their numbers.
    pub points: Vec<Numbered<P>>,
}

/// A point with its number.
#[derive(Serialize, Deserialize)]
pub(crate) struct Numbered<P> {
    pub number: i64,
    pub point: P,
}

/// A message to be added to the log.
#[derive(Debug)]
pub struct Outgoing {
    /// Differs from the id of any message with other points, so that the log can drop a message that is added twice.
    pub id: String,
    /// The message in JSON.
    pub payload: Vec<u8>,
    /// Number of points in it.
    pub points: usize,
    /// The number of the last one.
    pub(crate) last: i64,
}

/// A message from the log.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Where it is in the log.
    pub position: Position,
    /// The message in JSON.
    pub payload: Vec<u8>,
}

/// Where a message is in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its sequence number.
    pub sequence: u64,
    /// When it was added, in nanoseconds since 1970: another log may have the same sequence numbers.
    pub time: i64,
}

/// What was wrong with messages from the log, and left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Malformed messages, and invalid points in others.
    pub count: u64,
    /// What is wrong with the first.
    pub reason: String,
}

/// Reads a message. Leaves out points that violate a rule, and adds what is wrong to `rejected`; `None` if it is malformed.
pub(crate) fn read(
    Incoming { position, payload }: &Incoming,
    rejected: &mut Option<Rejected>,
) -> Option<Message<Point>> {
    let sequence = position.sequence;
    let mut reject = |reason: String| {
        let rejected = rejected.get_or_insert(Rejected { count: 0, reason });
        rejected.count += 1;
    };
    let mut message: Message<Point> = match serde_json::from_slice(payload) {
        Ok(message) => message,
        Err(error) => {
            reject(format!("message {sequence} is malformed: {error}"));
            return None;
        }
    };
    message
        .points
        .retain(|Numbered { number, point }| match point.check() {
            Ok(()) => true,
            Err(rule) => {
                reject(format!("message {sequence}, point {number}: {rule}"));
                false
            }
        });
    Some(message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Value;

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<f64>()
                .prop_filter("finite", |number| number.is_finite())
                .prop_map(Value::Float),
            any::<i64>().prop_map(Value::Integer),
            any::<String>().prop_map(Value::Text),
            any::<bool>().prop_map(Value::Boolean),
        ]
    }

    proptest! {
        #[test]
        fn a_point_is_the_same_after_the_way_through_json(
            measurement: String,
            time: Option<u64>,
            tags: Vec<(String, String)>,
            fields in prop::collection::vec((any::<String>(), any_value()), 1..4),
        ) {
            let point = Point { measurement, time, tags, fields };
            let text = serde_json::to_string(&point).unwrap();
            prop_assert_eq!(serde_json::from_str::<Point>(&text).unwrap(), point);
        }
    }
}
