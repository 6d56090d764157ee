//! The store's guarantees: exact aggregates, validation of points and queries, and durable files.

use std::sync::Arc;

use timeseries::{Aggregation, Error, Point, Query, Store, Value};

fn point(time: u64, tags: &[(&str, &str)], fields: &[(&str, Value)]) -> Point {
    Point {
        measurement: "calls".into(),
        time: Some(time),
        tags: tags
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect(),
        fields: fields
            .iter()
            .map(|(key, value)| (key.to_string(), value.clone()))
            .collect(),
    }
}

fn latency(time: u64, seconds: f64) -> Point {
    point(time, &[], &[("latency", Value::Float(seconds))])
}

fn query(aggregation: Aggregation) -> Query {
    Query {
        measurement: "calls".into(),
        field: "latency".into(),
        aggregation,
        start: None,
        stop: None,
        tags: Vec::new(),
    }
}

async fn get(store: &Store, aggregation: Aggregation) -> Option<f64> {
    store.aggregate(query(aggregation)).await.unwrap()
}

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_sqlite(dir.path().join("points.db"), None).unwrap();
    (dir, store)
}

#[tokio::test]
async fn aggregates_are_exact() {
    let (_dir, store) = open();
    let values = [3.5, -1.25, 10.0, 4.0, 4.0, 0.5, 7.75];
    let points = values
        .iter()
        .enumerate()
        .map(|(time, &value)| latency(time as u64, value))
        .collect();
    store.write(points).await.unwrap();
    assert_eq!(get(&store, Aggregation::Count).await, Some(7.0));
    assert_eq!(get(&store, Aggregation::Sum).await, Some(28.5));
    assert_eq!(get(&store, Aggregation::Min).await, Some(-1.25));
    assert_eq!(get(&store, Aggregation::Max).await, Some(10.0));
    assert_eq!(get(&store, Aggregation::Mean).await, Some(28.5 / 7.0));
    assert_eq!(get(&store, Aggregation::Median).await, Some(4.0));
    // numpy.quantile([3.5, -1.25, 10.0, 4.0, 4.0, 0.5, 7.75], q) of numpy 2.4, method "linear".
    for (share, expected) in [
        (0.0, -1.25),
        (0.1, -0.2),
        (0.25, 2.0),
        (0.9, 8.65),
        (0.95, 9.325),
        (1.0, 10.0),
    ] {
        let quantile = get(&store, Aggregation::Quantile(share)).await.unwrap();
        assert!((quantile - expected).abs() < 1e-12, "{share}: {quantile}");
    }
}

#[tokio::test]
async fn the_median_of_an_even_number_is_the_mean_of_the_middle_two() {
    let (_dir, store) = open();
    for value in [8.0, 1.0, 2.0, 4.0] {
        store.write(vec![latency(0, value)]).await.unwrap();
    }
    assert_eq!(get(&store, Aggregation::Median).await, Some(3.0));
}

#[tokio::test]
async fn without_points_count_and_sum_are_zero_and_the_others_none() {
    let (_dir, store) = open();
    for round in 0..2 {
        assert_eq!(get(&store, Aggregation::Count).await, Some(0.0));
        assert_eq!(get(&store, Aggregation::Sum).await, Some(0.0));
        for aggregation in [
            Aggregation::Min,
            Aggregation::Max,
            Aggregation::Mean,
            Aggregation::Median,
            Aggregation::Quantile(0.9),
        ] {
            assert_eq!(
                get(&store, aggregation).await,
                None,
                "{aggregation:?} {round}"
            );
        }
        // In the second round the measurement exists, but not this field.
        let other = point(0, &[], &[("length", Value::Integer(1))]);
        store.write(vec![other]).await.unwrap();
    }
}

#[tokio::test]
async fn a_range_includes_its_start_and_excludes_its_stop() {
    let (_dir, store) = open();
    let points = (0..10).map(|time| latency(time * 100, time as f64));
    store.write(points.collect()).await.unwrap();
    let sum = |start, stop| Query {
        start,
        stop,
        ..query(Aggregation::Sum)
    };
    let of = async |start, stop| store.aggregate(sum(start, stop)).await.unwrap().unwrap();
    assert_eq!(of(Some(200), Some(500)).await, 9.0);
    assert_eq!(of(Some(800), None).await, 17.0);
    assert_eq!(of(None, Some(200)).await, 1.0);
    assert_eq!(of(Some(u64::MAX), None).await, 0.0);
    assert_eq!(of(None, Some(u64::MAX)).await, 45.0);
    let median = Query {
        start: Some(200),
        stop: Some(500),
        ..query(Aggregation::Median)
    };
    assert_eq!(store.aggregate(median).await.unwrap(), Some(3.0));
}

#[tokio::test]
async fn tags_select_the_points_that_have_all_of_them() {
    let (_dir, store) = open();
    let calls = [
        (&[("trigger", "http"), ("status", "ok")][..], 1.0),
        (&[("status", "ok"), ("trigger", "http")][..], 2.0),
        (&[("trigger", "message"), ("status", "ok")][..], 4.0),
        (&[("trigger", "http"), ("status", "corrupt")][..], 8.0),
        (&[][..], 16.0),
    ];
    for (tags, value) in calls {
        let call = point(0, tags, &[("latency", Value::Float(value))]);
        store.write(vec![call]).await.unwrap();
    }
    let sum = async |tags: &[(&str, &str)]| {
        let query = Query {
            tags: point(0, tags, &[]).tags,
            ..query(Aggregation::Sum)
        };
        store.aggregate(query).await.unwrap().unwrap()
    };
    assert_eq!(sum(&[]).await, 31.0);
    assert_eq!(sum(&[("status", "ok")]).await, 7.0);
    assert_eq!(sum(&[("status", "ok"), ("trigger", "http")]).await, 3.0);
    assert_eq!(sum(&[("status", "gone")]).await, 0.0);
}

#[tokio::test]
async fn integers_aggregate_as_numbers_and_text_and_booleans_can_only_be_counted() {
    let (_dir, store) = open();
    let fields = [
        ("bytes", Value::Integer(i64::MAX)),
        ("name", Value::Text("ä".into())),
        ("cached", Value::Boolean(true)),
    ];
    store
        .write(vec![point(0, &[], &fields), point(1, &[], &fields)])
        .await
        .unwrap();
    let of = async |field: &str, aggregation| {
        let query = Query {
            field: field.into(),
            ..query(aggregation)
        };
        store.aggregate(query).await
    };
    let most = i64::MAX as f64;
    assert_eq!(of("bytes", Aggregation::Sum).await, Ok(Some(2.0 * most)));
    assert_eq!(of("bytes", Aggregation::Median).await, Ok(Some(most)));
    for field in ["name", "cached"] {
        assert_eq!(of(field, Aggregation::Count).await, Ok(Some(2.0)));
        for aggregation in [Aggregation::Mean, Aggregation::Median] {
            let error = of(field, aggregation).await.unwrap_err();
            assert!(
                matches!(&error, Error::Invalid(text) if text.contains(field)),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn invalid_points_are_refused_and_nothing_is_written() {
    let (_dir, store) = open();
    let good = || latency(0, 1.0);
    let number = || Value::Float(1.0);
    let cases = [
        (
            Point {
                measurement: String::new(),
                ..good()
            },
            "measurement is empty",
        ),
        (point(0, &[], &[]), "no field"),
        (
            point(0, &[("", "x")], &[("latency", number())]),
            "a tag's key is empty",
        ),
        (
            point(0, &[("a", "x"), ("a", "y")], &[("latency", number())]),
            "tag `a` is given twice",
        ),
        (point(0, &[], &[("", number())]), "a field's key is empty"),
        (
            point(0, &[], &[("b", number()), ("b", number())]),
            "field `b` is given twice",
        ),
        (latency(0, f64::NAN), "field `latency` is NaN"),
        (latency(0, f64::INFINITY), "field `latency` is inf"),
        (latency(u64::MAX, 1.0), "after the year 2262"),
    ];
    for (bad, text) in cases {
        let error = store.write(vec![good(), bad]).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)));
        assert!(error.to_string().starts_with("point 1: "), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    assert_eq!(get(&store, Aggregation::Count).await, Some(0.0));
}

#[tokio::test]
async fn points_and_queries_have_a_limited_number_of_tags() {
    let (_dir, store) = open();
    let tags = |count| -> Vec<(String, String)> {
        (0..count)
            .map(|tag| (tag.to_string(), "a".into()))
            .collect()
    };
    let with = |count| Point {
        tags: tags(count),
        ..latency(1, 1.0)
    };
    store.write(vec![with(32)]).await.unwrap();
    let refused = store.write(vec![with(33)]).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    let count = |tags| {
        store.aggregate(Query {
            tags,
            ..query(Aggregation::Count)
        })
    };
    assert_eq!(count(tags(32)).await, Ok(Some(1.0)));
    let refused = count(tags(33)).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}

#[tokio::test]
async fn a_query_ends_when_its_caller_has_left() {
    let (_dir, store) = open();
    for start in (0..200_000).step_by(1000) {
        let points = (start..start + 1000)
            .map(|time| latency(time, time as f64))
            .collect();
        store.write(points).await.unwrap();
    }
    // By time, so that every value is read; many of them take longer than a minute.
    let slow = || Query {
        start: Some(0),
        ..query(Aggregation::Median)
    };
    let asking: Vec<_> = (0..2_000).map(|_| store.aggregate(slow())).collect();
    let left = tokio::time::timeout(
        std::time::Duration::from_millis(200),
        futures::future::join_all(asking),
    );
    assert!(left.await.is_err());
    // At once, after those that are gone.
    assert_eq!(get(&store, Aggregation::Count).await, Some(200_000.0));
}

#[tokio::test]
async fn one_write_has_at_most_a_thousand_points() {
    let (_dir, store) = open();
    let points = |count| (0..count).map(|time| latency(time, 1.0)).collect();
    store.write(points(1000)).await.unwrap();
    let Err(Error::Invalid(text)) = store.write(points(1001)).await else {
        panic!("1001 points were accepted");
    };
    assert!(text.contains("1001") && text.contains("1000"), "{text}");
    assert_eq!(get(&store, Aggregation::Count).await, Some(1000.0));
}

#[tokio::test]
async fn invalid_queries_are_refused() {
    let (_dir, store) = open();
    let median = || query(Aggregation::Median);
    for bad in [
        Query {
            measurement: String::new(),
            ..median()
        },
        Query {
            field: String::new(),
            ..median()
        },
        query(Aggregation::Quantile(1.1)),
        query(Aggregation::Quantile(f64::NAN)),
        Query {
            tags: vec![("a".into(), "x".into()), ("a".into(), "y".into())],
            ..median()
        },
    ] {
        assert!(matches!(store.aggregate(bad).await, Err(Error::Invalid(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_lose_nothing() {
    let (_dir, store) = open();
    let store = Arc::new(store);
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for call in 0..200 {
                    let tag = [("task", format!("{task}"))];
                    let tag = [(tag[0].0, tag[0].1.as_str())];
                    let call = point(call, &tag, &[("latency", Value::Float(1.0))]);
                    store.write(vec![call]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(get(&store, Aggregation::Count).await, Some(3200.0));
    assert_eq!(get(&store, Aggregation::Sum).await, Some(3200.0));
}

#[tokio::test]
async fn a_point_without_a_time_gets_the_time_of_the_write() {
    let (_dir, store) = open();
    let nanos = || {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        since.as_nanos() as u64
    };
    let before = nanos();
    let call = Point {
        time: None,
        ..latency(0, 1.0)
    };
    store.write(vec![call]).await.unwrap();
    let during = Query {
        start: Some(before),
        stop: Some(nanos() + 1),
        ..query(Aggregation::Count)
    };
    assert_eq!(store.aggregate(during).await.unwrap(), Some(1.0));
}

#[tokio::test]
async fn a_reopened_store_has_everything_and_two_can_share_a_file() {
    let (dir, store) = open();
    store.write(vec![latency(0, 1.0)]).await.unwrap();
    store.close().await.unwrap();
    let path = dir.path().join("points.db");
    let one = Store::open_sqlite(&path, None).unwrap();
    let other = Store::open_sqlite(&path, None).unwrap();
    one.write(vec![latency(1, 2.0)]).await.unwrap();
    other.write(vec![latency(2, 4.0)]).await.unwrap();
    for store in [&one, &other] {
        assert_eq!(get(store, Aggregation::Sum).await, Some(7.0));
    }
}

#[test]
fn other_files_are_refused_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| match Store::open_sqlite(dir.path().join(name), None) {
        Ok(_) => panic!("{name} was opened"),
        Err(error) => error.to_string(),
    };

    let text = "This is a letter, not a database. ".repeat(100);
    std::fs::write(dir.path().join("letter.db"), &text).unwrap();
    let error = open("letter.db");
    assert!(
        error.contains("letter.db") && error.contains("not an SQLite database"),
        "{error}"
    );
    assert_eq!(
        std::fs::read_to_string(dir.path().join("letter.db")).unwrap(),
        text
    );

    let other = rusqlite::Connection::open(dir.path().join("other.db")).unwrap();
    other
        .execute_batch("CREATE TABLE mine (x); PRAGMA user_version = 1")
        .unwrap();
    let error = open("other.db");
    assert!(error.contains("another program"), "{error}");

    drop(Store::open_sqlite(dir.path().join("newer.db"), None).unwrap());
    let newer = rusqlite::Connection::open(dir.path().join("newer.db")).unwrap();
    newer.execute_batch("PRAGMA user_version = 4").unwrap();
    let error = open("newer.db");
    assert!(
        error.contains("version 4") && error.contains("version 3"),
        "{error}"
    );

    let error = open("no/such/folder.db");
    assert!(error.contains("folder exists"), "{error}");
}

/// Numbers from a fixed seed, of all magnitudes, many of them equal.
fn numbers(count: usize) -> impl Iterator<Item = f64> {
    let mut state = 7u64;
    std::iter::repeat_with(move || {
        // The linear congruential generator of Knuth's MMIX.
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let unit = (state >> 11) as f64 / (1u64 << 53) as f64;
        match state >> 60 {
            0 => 0.0,
            1 => 2.5,
            2 => -unit,
            3 => 1e-300 * unit,
            4 => 1e300 * unit,
            5..8 => (unit * 10.0).round(),
            _ => 1.0 + unit,
        }
    })
    .take(count)
}

/// Compares every aggregate, over all time and over a range that includes everything, with those of the sorted numbers.
async fn compare(store: &Store, tags: &[(&str, &str)], mut expected: Vec<f64>) {
    let tags: Vec<_> = tags
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    let of = async |aggregation, start| {
        let query = Query {
            start,
            tags: tags.clone(),
            ..query(aggregation)
        };
        store.aggregate(query).await.unwrap()
    };
    expected.sort_by(f64::total_cmp);
    for start in [None, Some(0)] {
        assert_eq!(
            of(Aggregation::Count, start).await,
            Some(expected.len() as f64)
        );
        let sum: f64 = expected.iter().sum();
        let given = of(Aggregation::Sum, start).await.unwrap();
        assert!((given - sum).abs() <= 1e-9 * sum.abs(), "{given} {sum}");
        assert_eq!(of(Aggregation::Min, start).await, expected.first().copied());
        assert_eq!(of(Aggregation::Max, start).await, expected.last().copied());
        for share in [0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.9999] {
            let rank = share * (expected.len() - 1) as f64;
            let [lower, upper] = [rank.floor(), rank.ceil()].map(|rank| expected[rank as usize]);
            assert_eq!(
                of(Aggregation::Quantile(share), start).await,
                Some(lower + (upper - lower) * rank.fract()),
                "{share}"
            );
        }
    }
}

/// Writes points with these numbers at this time, alternating between two series.
async fn write_in_two_series(store: &Store, numbers: &[f64], time: u64) {
    for chunk in numbers.chunks(timeseries::MAX_POINTS) {
        let points = chunk.iter().enumerate().map(|(index, &number)| {
            let series = ["even", "odd"][index % 2];
            let value = Value::Float(number);
            point(time, &[("series", series)], &[("latency", value)])
        });
        store.write(points.collect()).await.unwrap();
    }
}

fn every_second(numbers: &[f64]) -> Vec<f64> {
    numbers.iter().copied().step_by(2).collect()
}

#[tokio::test]
async fn aggregates_of_many_values_match_those_of_sorted_values() {
    let (_dir, store) = open();
    let numbers: Vec<f64> = numbers(20_000).collect();
    write_in_two_series(&store, &numbers, 7).await;
    compare(&store, &[("series", "even")], every_second(&numbers)).await;
    compare(&store, &[], numbers).await;
}

#[tokio::test]
async fn large_integers_and_floats_are_ordered_correctly() {
    let (_dir, store) = open();
    // Floats are two apart here: an integer between two of them may round up to a float that it is below.
    let edge = 1i64 << 53;
    let integers = (edge - 4..edge + 40).map(Value::Integer);
    let floats = (0..20).map(|step| Value::Float((edge + 2 * step) as f64));
    let values: Vec<Value> = integers.chain(floats).collect();
    let mut sorted: Vec<i128> = values
        .iter()
        .map(|value| match value {
            Value::Integer(integer) => i128::from(*integer),
            Value::Float(float) => *float as i128,
            _ => unreachable!(),
        })
        .collect();
    sorted.sort();
    let points = values
        .into_iter()
        .map(|value| point(0, &[], &[("latency", value)]));
    store.write(points.collect()).await.unwrap();
    for (rank, number) in sorted.iter().enumerate() {
        let share = rank as f64 / (sorted.len() - 1) as f64;
        let given = get(&store, Aggregation::Quantile(share)).await.unwrap();
        // Rounding may put a rank between two numbers; either is close enough.
        assert!(
            (given - *number as f64).abs() <= 2.0,
            "{rank}: {given} {number}"
        );
    }
}

#[tokio::test]
async fn points_older_than_the_retention_are_removed_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("points.db");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let numbers: Vec<f64> = numbers(20_000).collect();
    let (old, new) = numbers.split_at(12_000);
    let store = Store::open_sqlite(&path, None).unwrap();
    for (numbers, age) in [(old, 3), (new, 1)] {
        let time = (now - age * hour).as_nanos() as u64;
        write_in_two_series(&store, numbers, time).await;
    }
    let text = Value::Text("gone".into());
    let series = [("series", "only here")];
    let point = point(0, &series, &[("latency", text)]);
    store.write(vec![point]).await.unwrap();
    store.close().await.unwrap();

    let store = Store::open_sqlite(&path, Some(2 * hour)).unwrap();
    while get(&store, Aggregation::Count).await != Some(new.len() as f64) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    compare(&store, &[("series", "even")], every_second(new)).await;
    compare(&store, &[], new.to_vec()).await;
}

/// Removes the tables that files of version 2 do not have.
const WITHOUT_SHARING: &str = "DROP TABLE outgoing; DROP TABLE applied; DROP TABLE position;";

#[tokio::test]
async fn a_store_of_version_1_gets_its_rolling_aggregates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("points.db");
    let numbers: Vec<f64> = numbers(5_000).collect();
    let store = Store::open_sqlite(&path, None).unwrap();
    write_in_two_series(&store, &numbers, 7).await;
    store.close().await.unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(&format!(
            "DROP TABLE total; DROP TABLE bucket; {WITHOUT_SHARING}"
        ))
        .and_then(|()| connection.pragma_update(None, "user_version", 1))
        .unwrap();
    drop(connection);

    let store = Store::open_sqlite(&path, None).unwrap();
    compare(&store, &[("series", "even")], every_second(&numbers)).await;
    compare(&store, &[], numbers).await;
}

#[tokio::test]
async fn a_store_of_version_2_keeps_its_points_and_can_be_shared() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("points.db");
    let numbers: Vec<f64> = numbers(5_000).collect();
    let store = Store::open_sqlite(&path, None).unwrap();
    write_in_two_series(&store, &numbers, 7).await;
    store.close().await.unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(WITHOUT_SHARING)
        .and_then(|()| connection.pragma_update(None, "user_version", 2))
        .unwrap();
    drop(connection);

    let store = Store::open_shared(&path, None).unwrap();
    compare(&store, &[("series", "even")], every_second(&numbers)).await;
    compare(&store, &[], numbers).await;
    let sharing = store.sharing().unwrap();
    assert_eq!(sharing.waiting().await, Ok(0));
    assert_eq!(sharing.position().await, Ok(None));
    store.write(vec![latency(8, 1.0)]).await.unwrap();
    assert_eq!(sharing.waiting().await, Ok(1));
}
