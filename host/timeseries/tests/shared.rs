//! Stores that share a log: each point counts once in each of them.

use std::path::{Path, PathBuf};

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use timeseries::{
    Aggregation, Incoming, MAX_POINTS, Outgoing, Point, Position, Query, Rejected, Store, Value,
};

fn point(latency: f64) -> Point {
    Point {
        measurement: "calls".into(),
        time: None,
        tags: vec![("outcome".into(), "ok".into())],
        fields: vec![("latency".into(), Value::Float(latency))],
    }
}

async fn aggregate(store: &Store, aggregation: Aggregation) -> Option<f64> {
    let query = Query {
        measurement: "calls".into(),
        field: "latency".into(),
        aggregation,
        start: None,
        stop: None,
        tags: Vec::new(),
    };
    store.aggregate(query).await.unwrap()
}

async fn count(store: &Store) -> u64 {
    aggregate(store, Aggregation::Count).await.unwrap() as u64
}

/// A log in memory that keeps everything, also what is added twice.
#[derive(Default)]
struct Log(Vec<Vec<u8>>);

impl Log {
    fn add(&mut self, message: &Outgoing) {
        self.0.push(message.payload.clone());
    }

    fn after(&self, position: Option<Position>) -> Vec<Incoming> {
        let skipped = position.map_or(0, |position| position.sequence as usize);
        let numbered = self.0.iter().enumerate().skip(skipped);
        numbered
            .map(|(index, payload)| Incoming {
                position: Position {
                    sequence: index as u64 + 1,
                    time: 7,
                },
                payload: payload.clone(),
            })
            .collect()
    }

    /// Adds everything that waits.
    async fn send_all(&mut self, store: &Store) {
        let sharing = store.sharing().unwrap();
        while let Some(message) = sharing.outgoing(100_000).await.unwrap() {
            self.add(&message);
            sharing.confirm(message).await.unwrap();
        }
    }

    /// Applies what the store has not read.
    async fn receive_all(&self, store: &Store) -> Option<Rejected> {
        let sharing = store.sharing().unwrap();
        let position = sharing.position().await.unwrap();
        sharing.apply(&self.after(position)).await.unwrap()
    }
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self, name: &str) -> Store {
        Store::open_shared(self.path(name), None).unwrap()
    }
}

async fn outgoing(store: &Store, max_bytes: usize) -> Option<Outgoing> {
    store.sharing().unwrap().outgoing(max_bytes).await.unwrap()
}

fn rows(path: &Path, table: &str) -> i64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    let sql = format!("SELECT count(*) FROM {table}");
    connection.query_row(&sql, (), |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_point_counts_at_once_where_it_is_written_and_exactly_elsewhere() {
    let files = Files::new();
    let (one, other) = (files.open("one"), files.open("other"));
    let mut log = Log::default();
    // None of these has a short decimal form.
    let values: Vec<f64> = (1..=101)
        .map(|n| (f64::from(n) * 0.7).sin().exp() / 3.0)
        .collect();
    for (index, &value) in values.iter().enumerate() {
        let store = [&one, &other][index % 2];
        store.write(vec![point(value)]).await.unwrap();
    }
    assert_eq!((count(&one).await, count(&other).await), (51, 50));
    log.send_all(&one).await;
    log.send_all(&other).await;
    for store in [&one, &other] {
        assert_eq!(log.receive_all(store).await, None);
        assert_eq!(count(store).await, 101);
    }
    let mut sorted = values;
    sorted.sort_by(f64::total_cmp);
    for (rank, value) in sorted.iter().enumerate() {
        for store in [&one, &other] {
            let quantile = Aggregation::Quantile(rank as f64 / 100.0);
            let given = aggregate(store, quantile).await.unwrap();
            assert!((given - value).abs() < 1e-15, "{rank}: {given} {value}");
        }
    }
    // The times are those of the first writing.
    let times = |name| {
        let connection = rusqlite::Connection::open(files.path(name)).unwrap();
        let mut select = connection
            .prepare("SELECT time, value FROM value ORDER BY time, value")
            .unwrap();
        let rows = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?)));
        rows.unwrap()
            .map(Result::unwrap)
            .collect::<Vec<(i64, f64)>>()
    };
    assert_eq!(times("one"), times("other"));
}

#[tokio::test]
async fn a_message_that_is_in_the_log_twice_or_read_again_counts_once() {
    let files = Files::new();
    let (one, other) = (files.open("one"), files.open("other"));
    let mut log = Log::default();
    one.write(vec![point(1.0), point(2.0)]).await.unwrap();
    // The process ends after the message is in the log, and before that is confirmed.
    let message = outgoing(&one, 100_000).await.unwrap();
    log.add(&message);
    one.close().await.unwrap();
    let one = files.open("one");
    one.write(vec![point(4.0)]).await.unwrap();
    let again = outgoing(&one, 100_000).await.unwrap();
    assert_eq!((again.points, &again.id), (2, &message.id));
    log.send_all(&one).await;
    assert_eq!(log.0.len(), 3);
    for _ in 0..2 {
        for store in [&one, &other] {
            // From the beginning, each time.
            let sharing = store.sharing().unwrap();
            sharing.apply(&log.after(None)).await.unwrap();
            assert_eq!(aggregate(store, Aggregation::Sum).await, Some(7.0));
        }
    }
    assert_eq!(rows(&files.path("one"), "outgoing"), 0);
    assert_eq!(rows(&files.path("other"), "outgoing"), 0);
}

#[tokio::test]
async fn a_message_with_a_part_of_another_adds_the_rest() {
    let files = Files::new();
    let (one, other) = (files.open("one"), files.open("other"));
    let mut log = Log::default();
    for value in [1.0, 2.0, 4.0] {
        one.write(vec![point(value)]).await.unwrap();
        // Not confirmed: the next message has all points.
        log.add(&outgoing(&one, 100_000).await.unwrap());
    }
    // The first may arrive late.
    log.0.push(log.0[0].clone());
    log.receive_all(&other).await;
    assert_eq!(aggregate(&other, Aggregation::Sum).await, Some(7.0));
}

#[tokio::test]
async fn the_position_is_kept_with_the_points() {
    let files = Files::new();
    let (one, other) = (files.open("one"), files.open("other"));
    let mut log = Log::default();
    assert_eq!(other.sharing().unwrap().position().await, Ok(None));
    for value in [1.0, 2.0, 4.0] {
        one.write(vec![point(value)]).await.unwrap();
        log.send_all(&one).await;
        log.receive_all(&other).await;
    }
    other.close().await.unwrap();
    let other = files.open("other");
    let position = Position {
        sequence: 3,
        time: 7,
    };
    assert_eq!(
        other.sharing().unwrap().position().await,
        Ok(Some(position))
    );
    assert_eq!(aggregate(&other, Aggregation::Sum).await, Some(7.0));
}

#[tokio::test]
async fn a_message_is_as_long_as_it_may_be() {
    let files = Files::new();
    let store = files.open("one");
    for _ in 0..3 {
        store.write(vec![point(1.0); MAX_POINTS]).await.unwrap();
    }
    assert_eq!(store.sharing().unwrap().waiting().await, Ok(3000));
    let text = Value::Text("x".repeat(100_000));
    let large = Point {
        fields: vec![("latency".into(), text)],
        ..point(1.0)
    };
    store.write(vec![large]).await.unwrap();
    let all = outgoing(&store, usize::MAX).await.unwrap();
    assert_eq!(all.points, MAX_POINTS);
    assert_eq!(outgoing(&store, 0).await.unwrap().points, 1);
    let (mut points, mut messages) = (0, 0);
    let sharing = store.sharing().unwrap();
    while let Some(message) = sharing.outgoing(10_000).await.unwrap() {
        assert!(message.payload.len() <= 10_000 || message.points == 1);
        points += message.points;
        messages += 1;
        sharing.confirm(message).await.unwrap();
    }
    assert_eq!(points, 3001);
    assert!(messages < 100, "{messages}");
}

#[tokio::test]
async fn a_restored_backup_loses_and_doubles_nothing() {
    let files = Files::new();
    let (one, other) = (files.open("one"), files.open("other"));
    let mut log = Log::default();
    one.write(vec![point(1.0)]).await.unwrap();
    one.close().await.unwrap();
    let connection = rusqlite::Connection::open(files.path("one")).unwrap();
    connection
        .execute("VACUUM INTO ?1", [files.path("backup").to_str().unwrap()])
        .unwrap();
    let one = files.open("one");
    one.write(vec![point(2.0)]).await.unwrap();
    log.send_all(&one).await;
    one.write(vec![point(4.0)]).await.unwrap();
    log.send_all(&one).await;
    one.close().await.unwrap();

    // The backup has the first point, also as one to be sent.
    let one = files.open("backup");
    assert_eq!(count(&one).await, 1);
    one.write(vec![point(8.0)]).await.unwrap();
    log.send_all(&one).await;
    for store in [&one, &other] {
        log.receive_all(store).await;
        assert_eq!(aggregate(store, Aggregation::Sum).await, Some(15.0));
    }
}

#[tokio::test]
async fn what_is_malformed_or_invalid_is_left_out_and_reported() {
    let files = Files::new();
    let (one, other) = (files.open("one"), files.open("other"));
    let mut log = Log::default();
    one.write(vec![point(1.0)]).await.unwrap();
    log.0.push(b"hello".to_vec());
    log.0.push(Vec::new());
    // No field, one twice, too large a number, an unknown kind: the last two are malformed.
    let field = r#"["latency",{"float":1.0}]"#;
    for (origin, fields) in [
        ("a", String::new()),
        ("b", format!("{field},{field}")),
        ("c", r#"["latency",{"float":1e999}]"#.into()),
        ("d", r#"["latency",{"complex":1.0}]"#.into()),
    ] {
        let points = [(1, &*fields), (2, field)].map(|(number, fields)| {
            format!(
                r#"{{"number":{number},"point":{{"measurement":"calls","time":1,"tags":[],"fields":[{fields}]}}}}"#
            )
        });
        let message = format!(r#"{{"origin":"{origin}","points":[{}]}}"#, points.join(","));
        log.0.push(message.into_bytes());
    }
    log.send_all(&one).await;
    let rejected = log.receive_all(&other).await.unwrap();
    assert!(
        rejected.reason.starts_with("message 1 is malformed"),
        "{rejected:?}"
    );
    assert_eq!(rejected.count, 6);
    // The second points of three messages, and the one that was written.
    assert_eq!(count(&other).await, 4);
    assert_eq!(log.receive_all(&other).await, None);
}

#[tokio::test]
async fn a_store_that_does_not_share_keeps_nothing_to_be_sent() {
    let files = Files::new();
    let store = Store::open_sqlite(files.path("one"), None).unwrap();
    assert!(store.sharing().is_none());
    store.write(vec![point(1.0)]).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(rows(&files.path("one"), "outgoing"), 0);
    assert!(Store::in_memory().unwrap().sharing().is_none());
    // Later points are shared.
    let store = files.open("one");
    store.write(vec![point(2.0)]).await.unwrap();
    assert_eq!(outgoing(&store, 100_000).await.unwrap().points, 1);
    assert_eq!(count(&store).await, 2);
}

#[tokio::test]
async fn two_processes_with_the_same_file_count_each_point_once() {
    let files = Files::new();
    let (one, same, other) = (files.open("one"), files.open("one"), files.open("other"));
    let mut log = Log::default();
    for value in [1.0, 2.0, 4.0, 8.0] {
        for store in [&one, &same, &other] {
            store.write(vec![point(value)]).await.unwrap();
        }
    }
    // Both send the same points.
    let twice = [
        outgoing(&one, 0).await.unwrap(),
        outgoing(&same, 0).await.unwrap(),
    ];
    for message in twice {
        log.add(&message);
        one.sharing().unwrap().confirm(message).await.unwrap();
    }
    for store in [&one, &same, &other] {
        log.send_all(store).await;
    }
    for store in [&one, &same, &other, &one] {
        log.receive_all(store).await;
    }
    for store in [&one, &same, &other] {
        assert_eq!(aggregate(store, Aggregation::Sum).await, Some(45.0));
    }
}

/// Writes, sends, crashes and reads in an order from a seed: in the end, all files have every point once.
async fn converges(seed: u8) {
    let files = Files::new();
    let names = ["a", "b", "c"];
    let mut stores = names.map(|name| Some(files.open(name)));
    let mut log = Log::default();
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let (mut written, mut sum) = (0, 0.0);
    for step in 0..60 {
        let index = random.next_u32() as usize % names.len();
        let store = stores[index].as_ref().unwrap();
        let sharing = store.sharing().unwrap();
        match random.next_u32() % 8 {
            0..3 => {
                let points = random.next_u32() % 3 + 1;
                let values = (0..points).map(|part| f64::from(step * 4 + part));
                sum += values.clone().sum::<f64>();
                written += u64::from(points);
                store.write(values.map(point).collect()).await.unwrap();
            }
            3 | 4 => {
                let max_bytes = [0, 300, 100_000][random.next_u32() as usize % 3];
                if let Some(message) = sharing.outgoing(max_bytes).await.unwrap() {
                    log.add(&message);
                    if random.next_u32().is_multiple_of(2) {
                        sharing.confirm(message).await.unwrap();
                    }
                }
            }
            5 => {
                log.receive_all(store).await;
            }
            6 => {
                // From any earlier position, to any later one.
                let from = random.next_u32() as usize % (log.0.len() + 1);
                let position = sharing.position().await.unwrap();
                let known = position.map_or(0, |position| position.sequence as usize);
                let messages = log.after(None);
                let start = from.min(known);
                let end = start + random.next_u32() as usize % (messages.len() - start + 1);
                sharing.apply(&messages[start..end]).await.unwrap();
            }
            _ => {
                stores[index] = None;
                stores[index] = Some(files.open(names[index]));
            }
        }
    }
    for store in stores.iter().flatten() {
        log.send_all(store).await;
    }
    for store in stores.iter().flatten() {
        log.receive_all(store).await;
        assert_eq!(count(store).await, written, "{seed}");
        assert_eq!(
            aggregate(store, Aggregation::Sum).await,
            Some(sum),
            "{seed}"
        );
    }
}

#[tokio::test]
async fn stores_converge_whatever_the_order_of_events() {
    for seed in 0..20 {
        converges(seed).await;
    }
}
