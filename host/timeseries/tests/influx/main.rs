//! The store in InfluxDB, against a server that speaks its API: every point arrives exactly once, whatever happens to the server, and
//! queries see every acknowledged point at once.

mod flux;
mod server;

use std::path::Path;
use std::time::{Duration, Instant};

use server::{Fault, ORG, Server, TOKEN, Value as Stored};
use timeseries::influx::Config;
use timeseries::{Aggregation, Error, Point, Query, Store, Value};

/// Limit for what should happen soon, on a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(server: &Server, folder: &Path) -> Config {
    use_ring();
    Config::new(server.location(), TOKEN, folder.join("spool.sqlite")).unwrap()
}

fn use_ring() {
    // Fails if a default is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn call(latency: f64) -> Point {
    Point {
        measurement: "calls".into(),
        time: None,
        tags: vec![("outcome".into(), "ok".into())],
        fields: vec![
            ("latency".into(), Value::Float(latency)),
            ("audio_length".into(), Value::Float(2.0 * latency)),
        ],
    }
}

fn query(aggregation: Aggregation) -> Query {
    Query {
        measurement: "calls".into(),
        field: "latency".into(),
        aggregation,
        start: None,
        stop: None,
        tags: vec![("outcome".into(), "ok".into())],
    }
}

async fn write(store: &Store, latencies: impl IntoIterator<Item = f64>) {
    for latency in latencies {
        store.write(vec![call(latency)]).await.unwrap();
    }
}

/// The latencies on the server, in ascending order.
fn delivered(server: &Server) -> Vec<f64> {
    let state = server.state();
    let latencies = state.points.values().map(|fields| match fields["latency"] {
        Stored::Float(number) => number,
        ref other => panic!("{other:?}"),
    });
    let mut latencies: Vec<f64> = latencies.collect();
    latencies.sort_by(f64::total_cmp);
    latencies
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn eventually_delivered(server: &Server, expected: &[f64]) {
    eventually("all points are on the server", || {
        delivered(server).len() >= expected.len()
    })
    .await;
    assert_eq!(delivered(server), expected);
}

fn numbers(range: std::ops::Range<u32>) -> Vec<f64> {
    range.map(f64::from).collect()
}

/// Opens a connection to the spool, as an operator would.
fn dead_letters(folder: &Path) -> Vec<(String, String)> {
    let connection = rusqlite::Connection::open(folder.join("spool.sqlite")).unwrap();
    let mut select = connection
        .prepare("SELECT line, reason FROM dead_letter ORDER BY id")
        .unwrap();
    let rows = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn values_in_spool(folder: &Path) -> i64 {
    let connection = rusqlite::Connection::open(folder.join("spool.sqlite")).unwrap();
    let count = connection.query_row("SELECT count(*) FROM value", (), |row| row.get(0));
    count.unwrap()
}

#[tokio::test]
async fn points_are_delivered_in_batches_with_unique_times() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let store = Store::open_influx(config(&server, folder.path()))
        .await
        .unwrap();
    let expected = numbers(0..500);
    write(&store, expected.clone()).await;
    eventually_delivered(&server, &expected).await;
    assert!(
        server.state().writes.len() < 50,
        "{:?}",
        server.state().writes
    );
    let ((measurement, tags), _) = server.state().points.keys().next().unwrap().clone();
    assert_eq!(measurement, "calls");
    let keys: Vec<&str> = tags.iter().map(|(key, _)| &**key).collect();
    assert_eq!(keys, ["outcome", "service.instance.id"]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_query_sees_points_on_the_server_and_in_the_spool() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let store = Store::open_influx(config(&server, folder.path()))
        .await
        .unwrap();
    let get = async |aggregation| store.aggregate(query(aggregation)).await.unwrap();
    assert_eq!(get(Aggregation::Count).await, Some(0.0));
    assert_eq!(get(Aggregation::Sum).await, Some(0.0));
    assert_eq!(get(Aggregation::Median).await, None);
    // The even numbers are delivered, the odd ones are not.
    write(&store, (0..50).map(|number| f64::from(2 * number))).await;
    eventually("half of the points are delivered", || {
        delivered(&server).len() == 50
    })
    .await;
    server
        .state()
        .write_faults
        .extend(vec![Fault::Status(503); 1000]);
    write(&store, (0..50).map(|number| f64::from(2 * number + 1))).await;
    for (aggregation, expected) in [
        (Aggregation::Count, 100.0),
        (Aggregation::Sum, 4950.0),
        (Aggregation::Min, 0.0),
        (Aggregation::Max, 99.0),
        (Aggregation::Mean, 49.5),
        (Aggregation::Median, 49.5),
        (Aggregation::Quantile(0.95), 94.05),
        (Aggregation::Quantile(1.0), 99.0),
    ] {
        let found = get(aggregation).await.unwrap();
        assert!((found - expected).abs() < 1e-9, "{aggregation:?}: {found}");
    }
    assert_eq!(delivered(&server).len(), 50);
    // Other hosts write to the same bucket.
    let second = tempfile::tempdir().unwrap();
    let other = Store::open_influx(config(&server, second.path()))
        .await
        .unwrap();
    let found = other.aggregate(query(Aggregation::Count)).await.unwrap();
    assert_eq!(found, Some(50.0));
    other.close().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn tags_and_times_select_points_and_other_types_are_only_counted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let store = Store::open_influx(config(&server, folder.path()))
        .await
        .unwrap();
    let awkward = r#"a "b" \c ${d} $5, e=f"#;
    let point = |time: u64, outcome: &str, value: Value| Point {
        measurement: "calls, all".into(),
        time: Some(time),
        tags: vec![("outcome".into(), outcome.into())],
        fields: vec![("latency (s)".into(), value)],
    };
    let points = vec![
        point(10, awkward, Value::Integer(1)),
        point(20, awkward, Value::Integer(2)),
        point(30, "ok", Value::Integer(4)),
    ];
    store.write(points).await.unwrap();
    let text = Point {
        fields: vec![("words".into(), Value::Text("a \"b\" \\c\nd".into()))],
        ..point(40, "ok", Value::Integer(0))
    };
    store.write(vec![text]).await.unwrap();
    let sum = async |start, stop, tags: &[&str], field: &str, aggregation| {
        let query = Query {
            measurement: "calls, all".into(),
            field: field.into(),
            aggregation,
            start,
            stop,
            tags: tags
                .iter()
                .map(|tag| ("outcome".to_owned(), (*tag).to_owned()))
                .collect(),
        };
        store.aggregate(query).await
    };
    for where_they_are in ["in the spool", "on the server"] {
        let field = "latency (s)";
        let all = sum(None, None, &[], field, Aggregation::Sum).await;
        assert_eq!(all, Ok(Some(7.0)), "{where_they_are}");
        let some = sum(None, None, &[awkward], field, Aggregation::Sum).await;
        assert_eq!(some, Ok(Some(3.0)), "{where_they_are}");
        let some = sum(Some(20), Some(30), &[], field, Aggregation::Sum).await;
        assert_eq!(some, Ok(Some(2.0)), "{where_they_are}");
        let count = sum(None, None, &[], "words", Aggregation::Count).await;
        assert_eq!(count, Ok(Some(1.0)), "{where_they_are}");
        let refused = sum(None, None, &[], "words", Aggregation::Mean).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
        eventually("all points are delivered", || {
            server.state().points.len() == 4
        })
        .await;
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_line_protocol_cannot_express_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let store = Store::open_influx(config(&server, folder.path()))
        .await
        .unwrap();
    let tag = |key: &str, value: &str| Point {
        tags: vec![(key.into(), value.into())],
        ..call(1.0)
    };
    let named = |measurement: &str| Point {
        measurement: measurement.into(),
        ..call(1.0)
    };
    for (point, message) in [
        (
            tag("model", "a\nb"),
            "the value of tag `model` has the control character",
        ),
        (
            tag("model", "a\\"),
            "the value of tag `model` has a backslash before",
        ),
        (
            tag("model", "a\\ b"),
            "the value of tag `model` has a backslash before",
        ),
        (tag("model", ""), "the value of tag `model` is empty"),
        (
            tag("_field", "a"),
            "tag `_field`: InfluxDB reserves this name",
        ),
        (tag("time", "a"), "tag `time`: InfluxDB reserves this name"),
        (tag("latency", "a"), "`latency` is both a tag and a field"),
        (tag("model", &"x".repeat(40_000)), "have 4001"),
        (named("#calls"), "starts with `#`"),
        (named("calls\\"), "the measurement has a backslash before"),
    ] {
        let Err(Error::Invalid(found)) = store.write(vec![call(0.0), point]).await else {
            panic!("{message}");
        };
        assert!(
            found.starts_with("point 1: ") && found.contains(message),
            "{found}"
        );
    }
    let count = store.aggregate(query(Aggregation::Count)).await.unwrap();
    assert_eq!(count, Some(0.0));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_missing_bucket_is_created_with_the_retention_or_an_error_says_what_to_create() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    server.state().buckets.clear();
    let with_retention = || {
        let mut config = config(&server, folder.path());
        config.retention = Some(Duration::from_secs(90 * 24 * 3600));
        config
    };
    let Err(Error::Unavailable(message)) = Store::open_influx(with_retention()).await else {
        panic!("no error");
    };
    for part in ["403", "bucket `calls`", ORG, "may read and write"] {
        assert!(message.contains(part), "{message}");
    }
    server.state().may_create = true;
    let store = Store::open_influx(with_retention()).await.unwrap();
    assert_eq!(server.state().buckets["calls"], 90 * 24 * 3600);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_wrong_token_or_organization_is_an_error_without_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    use_ring();
    let spool = || folder.path().join("spool.sqlite");
    let wrong = Config::new(server.location(), "wrong-token", spool()).unwrap();
    let Err(Error::Unavailable(message)) = Store::open_influx(wrong).await else {
        panic!("no error");
    };
    assert!(
        message.contains("401") && !message.contains("wrong-token"),
        "{message}"
    );
    let other = format!("influxdb://{}?org=nobody&bucket=calls", server.address);
    let other = Config::new(other.parse().unwrap(), TOKEN, spool()).unwrap();
    let Err(Error::Unavailable(message)) = Store::open_influx(other).await else {
        panic!("no error");
    };
    assert!(
        message.contains("create organization `nobody`"),
        "{message}"
    );
    assert!(Config::new(server.location(), "a\nb", spool()).is_err());
}

#[tokio::test]
async fn points_wait_for_a_server_that_is_down_and_queries_say_so_soon() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let store = Store::open_influx(config(&server, folder.path()))
        .await
        .unwrap();
    write(&store, numbers(0..10)).await;
    eventually_delivered(&server, &numbers(0..10)).await;
    let stopped = server.stop().await;
    write(&store, numbers(10..20)).await;
    let Err(Error::Unavailable(message)) = store.aggregate(query(Aggregation::Count)).await else {
        panic!("no error");
    };
    assert!(message.contains("InfluxDB cannot be asked"), "{message}");
    let server = stopped.start().await;
    eventually_delivered(&server, &numbers(0..20)).await;
    let count = store.aggregate(query(Aggregation::Count)).await.unwrap();
    assert_eq!(count, Some(20.0));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_opens_while_the_server_is_down_and_points_survive_its_own_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let settings = || config(&server, folder.path());
    let (first, second) = (settings(), settings());
    let stopped = server.stop().await;
    let store = Store::open_influx(first).await.unwrap();
    write(&store, numbers(0..10)).await;
    store.close().await.unwrap();
    let server = stopped.start().await;
    let store = Store::open_influx(second).await.unwrap();
    // At once: the points are delivered before the query, or counted in the spool.
    let count = store.aggregate(query(Aggregation::Count)).await.unwrap();
    assert_eq!(count, Some(10.0));
    eventually_delivered(&server, &numbers(0..10)).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn each_error_of_the_server_is_survived_and_every_point_arrives_once() {
    let faults = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(401),
        Fault::Status(404),
        Fault::Foreign(400, "Client sent an HTTP request to an HTTPS server.\n"),
        Fault::Foreign(400, r#"{"message":"Bad request","request_id":"abc"}"#),
        Fault::Foreign(413, "<html>too large</html>"),
        Fault::Foreign(422, "{}"),
        Fault::RetryAfter(429, 1),
        Fault::RetryAfter(503, 1),
        Fault::Close,
        Fault::Slow(Duration::from_millis(300)),
    ];
    for fault in faults {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start().await;
        server.state().write_faults.extend(vec![fault.clone(); 2]);
        let store = Store::open_influx(config(&server, folder.path()))
            .await
            .unwrap();
        write(&store, numbers(0..30)).await;
        // Also in the middle of it: nothing counts twice.
        let start = Instant::now();
        loop {
            match store.aggregate(query(Aggregation::Count)).await {
                Ok(count) => {
                    assert_eq!(count, Some(30.0), "{fault:?}");
                    if delivered(&server).len() == 30 {
                        break;
                    }
                }
                Err(Error::Unavailable(_)) => {}
                Err(other) => panic!("{fault:?}: {other}"),
            }
            assert!(start.elapsed() < PATIENCE, "{fault:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let sum = store.aggregate(query(Aggregation::Sum)).await.unwrap();
        assert_eq!(sum, Some(435.0), "{fault:?}");
        assert_eq!(delivered(&server), numbers(0..30), "{fault:?}");
        assert_eq!(dead_letters(folder.path()), [], "{fault:?}");
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn the_server_is_left_alone_for_as_long_as_it_asks() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    server
        .state()
        .write_faults
        .push_back(Fault::RetryAfter(429, 3));
    let store = Store::open_influx(config(&server, folder.path()))
        .await
        .unwrap();
    write(&store, numbers(0..1)).await;
    eventually_delivered(&server, &numbers(0..1)).await;
    let requests = server.state().requests.clone();
    assert_eq!(requests.len(), 2);
    assert!(requests[1] - requests[0] >= Duration::from_secs(3));
    store.close().await.unwrap();
}

#[tokio::test]
async fn refused_points_are_kept_as_dead_letters_and_the_others_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let store = Store::open_influx(config(&server, folder.path()))
        .await
        .unwrap();
    write(&store, numbers(0..1)).await;
    eventually_delivered(&server, &numbers(0..1)).await;
    // Another type than the field has on the server.
    let other_type = Point {
        fields: vec![("latency".into(), Value::Text("long".into()))],
        ..call(0.0)
    };
    let mut points: Vec<Point> = numbers(1..100).into_iter().map(call).collect();
    points.insert(40, other_type.clone());
    points.insert(80, other_type);
    store.write(points).await.unwrap();
    eventually_delivered(&server, &numbers(0..100)).await;
    eventually("both are dead letters", || {
        dead_letters(folder.path()).len() == 2
    })
    .await;
    for (line, reason) in dead_letters(folder.path()) {
        assert!(
            line.starts_with("calls,outcome=ok,service.instance.id="),
            "{line}"
        );
        assert!(line.contains("latency=\"long\""), "{line}");
        assert!(
            reason.starts_with("422") && reason.contains("field type conflict"),
            "{reason}"
        );
    }
    let count = store.aggregate(query(Aggregation::Count)).await.unwrap();
    assert_eq!(count, Some(100.0));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_server_that_hangs_does_not_delay_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let hangs = Fault::Slow(Duration::from_secs(1000));
    server.state().write_faults.extend(vec![hangs; 10]);
    let store = Store::open_influx(config(&server, folder.path()))
        .await
        .unwrap();
    write(&store, numbers(0..1)).await;
    eventually("the server hangs", || server.state().requests.len() == 1).await;
    let closed = tokio::time::timeout(Duration::from_secs(20), store.close());
    closed.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_refuses_everything_gets_few_points() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    server
        .state()
        .write_faults
        .extend(vec![Fault::Status(400); 1000]);
    let store = Store::open_influx(config(&server, folder.path()))
        .await
        .unwrap();
    let points = numbers(0..400).into_iter().map(call).collect();
    store.write(points).await.unwrap();
    eventually("the first points are dead letters", || {
        dead_letters(folder.path()).len() > 100
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let refused = dead_letters(folder.path()).len();
    assert!(refused < 120, "{refused}");
    server.state().write_faults.clear();
    eventually_delivered(&server, &numbers(refused as u32..400)).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn answers_to_queries_that_make_no_sense_are_errors_that_do_not_show_them() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let store = Store::open_influx(config(&server, folder.path()))
        .await
        .unwrap();
    let rows = ",sum,,1\r\n";
    for answer in [
        format!(",error,reference\r\n,secret{},897\r\n", "x".repeat(2000)),
        format!(",result,table,_value\r\n{}", rows.repeat(2)),
        format!(",result,table,_value\r\n{}", rows.repeat(1_000_000)),
        format!(",result,table,_value\r\n,count,,{}\r\n", "9".repeat(3000)),
        "<html>secret</html>".to_owned(),
    ] {
        let beginning = answer[..40.min(answer.len())].to_owned();
        server.state().query_faults.push_back(Fault::Body(answer));
        match store.aggregate(query(Aggregation::Sum)).await {
            Err(Error::Unavailable(message)) => {
                assert!(
                    message.len() < 200 && !message.contains("secret"),
                    "{message}"
                );
            }
            other => panic!("{other:?} from {beginning:?}"),
        }
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_divided() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    // A line has a hundred bytes.
    server.state().max_body = Some(2_000);
    let store = Store::open_influx(config(&server, folder.path()))
        .await
        .unwrap();
    let points = numbers(0..500).into_iter().map(call).collect();
    store.write(points).await.unwrap();
    eventually_delivered(&server, &numbers(0..500)).await;
    let large = Point {
        fields: vec![("text".into(), Value::Text("x".repeat(3_000)))],
        ..call(0.0)
    };
    store.write(vec![large]).await.unwrap();
    write(&store, numbers(500..501)).await;
    eventually_delivered(&server, &numbers(0..501)).await;
    let letters = dead_letters(folder.path());
    assert_eq!(letters.len(), 1);
    assert!(letters[0].1.starts_with("413"), "{}", letters[0].1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_slow_server_delays_no_write_and_queries_give_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let store = Store::open_influx(config(&server, folder.path()))
        .await
        .unwrap();
    let slow = Fault::Slow(Duration::from_secs(600));
    server.state().write_faults.push_back(slow.clone());
    server.state().query_faults.push_back(slow);
    write(&store, numbers(0..1)).await;
    eventually("a write hangs", || server.state().write_faults.is_empty()).await;
    // A write that waited for the server would hang.
    let writing = write(&store, numbers(1..10));
    tokio::time::timeout(PATIENCE, writing).await.unwrap();
    let asking = store.aggregate(query(Aggregation::Count));
    let Err(Error::Unavailable(message)) = asking.await else {
        panic!("no error");
    };
    assert!(message.contains("InfluxDB cannot be asked"), "{message}");
    store.close().await.unwrap();
}

#[tokio::test]
async fn points_that_wait_too_long_are_dropped_whatever_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let with_age = |seconds| {
        let mut config = config(&server, folder.path());
        config.max_age = Duration::from_secs(seconds);
        config
    };
    let (short, long) = (with_age(1), with_age(3600));
    let stopped = server.stop().await;
    let store = Store::open_influx(short).await.unwrap();
    write(&store, numbers(0..3)).await;
    // The limits are checked before an attempt, ten seconds after the last check at the earliest: at the first check the points are
    // found, at the second dropped.
    let start = Instant::now();
    while values_in_spool(folder.path()) > 0 {
        assert!(start.elapsed() < 3 * PATIENCE, "the points are still there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    store.close().await.unwrap();
    let store = Store::open_influx(long).await.unwrap();
    let old = Point {
        time: Some(1_000_000_000),
        ..call(7.0)
    };
    store.write(vec![old]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(12)).await;
    let server = stopped.start().await;
    eventually_delivered(&server, &[7.0]).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn the_spool_keeps_its_limits_while_the_server_asks_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    server
        .state()
        .write_faults
        .push_back(Fault::RetryAfter(503, 1000));
    let mut settings = config(&server, folder.path());
    settings.max_bytes = 2 << 20;
    let store = Store::open_influx(settings).await.unwrap();
    write(&store, numbers(0..1)).await;
    eventually("the server asks to wait", || {
        server.state().requests.len() == 1
    })
    .await;
    for start in (0..20_000).step_by(1000) {
        let points = numbers(start..start + 1000).into_iter().map(call).collect();
        store.write(points).await.unwrap();
    }
    let all = values_in_spool(folder.path());
    eventually("the oldest points are dropped", || {
        values_in_spool(folder.path()) < all
    })
    .await;
    assert_eq!(server.state().requests.len(), 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_spool_that_is_too_large_drops_its_oldest_points() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let settings = || {
        let mut config = config(&server, folder.path());
        config.max_bytes = 2 << 20;
        config
    };
    let (first, second) = (settings(), settings());
    let stopped = server.stop().await;
    let store = Store::open_influx(first).await.unwrap();
    for start in (0..20_000).step_by(1000) {
        let points = numbers(start..start + 1000).into_iter().map(call).collect();
        store.write(points).await.unwrap();
    }
    store.close().await.unwrap();
    let server = stopped.start().await;
    let store = Store::open_influx(second).await.unwrap();
    eventually("the newest points are delivered", || {
        delivered(&server).last() == Some(&19_999.0)
    })
    .await;
    let left = delivered(&server);
    assert!((1_000..15_000).contains(&left.len()), "{}", left.len());
    let count = left.len() as u32;
    assert_eq!(left, numbers(20_000 - count..20_000));
    store.close().await.unwrap();
}
