//! Points that are written as lines are read back by three parsers of the protocol: the crate that InfluxDB 3 is made of, and two
//! servers, InfluxDB 1.6 and VictoriaMetrics.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use influxdb_line_protocol::{FieldValue, parse_lines};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::Value as Json;

use super::{MAX_TIME, check, write};
use crate::{Point, Value};

/// Number of generated points.
const POINTS: usize = 400;

/// A server that `make test` provides. `None` if it cannot: prints a message.
fn program(name: &str) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let program = root.join(".tools/servers").join(name);
    if program.exists() {
        return Some(program);
    }
    eprintln!(
        "skipped: there is no {}; scripts/setup-servers.sh puts it there",
        program.display()
    );
    None
}

/// A server in a process. Dropping it ends it.
struct Server {
    process: Child,
    url: String,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    async fn start(command: &mut Command, port: u16, folder: tempfile::TempDir) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let process = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
            client: reqwest::Client::new(),
            _folder: folder,
        };
        let start = Instant::now();
        while server
            .client
            .get(format!("{}/ping", server.url))
            .send()
            .await
            .is_err()
        {
            assert!(start.elapsed() < Duration::from_secs(60), "{}", server.url);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server
    }

    async fn post(&self, path: &str, body: Vec<u8>) {
        let url = format!("{}{path}", self.url);
        let response = self.client.post(url).body(body).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}");
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Text with every character that the protocol treats in a special way.
fn awkward() -> impl Strategy<Value = String> {
    let characters = prop::sample::select(vec![
        ',', ' ', '=', '"', '\\', '\'', '#', '$', '{', '}', ':', '/', 'a', 'i', 't', '1', '.', '-',
        'ä', '😀',
    ]);
    prop::collection::vec(characters, 1..8).prop_map(|text| text.into_iter().collect())
}

fn value() -> impl Strategy<Value = Value> {
    let floats = prop_oneof![
        any::<f64>().prop_filter("it is finite", |number| number.is_finite()),
        prop::sample::select(vec![0.0, 1.0, -1.5, 1e300, 5e-324, f64::MAX, f64::MIN, 0.1]),
    ];
    let text = (awkward(), "[ -~\n\r\t\u{e4}\u{1f600}]{0,20}").prop_map(|(a, b)| a + &b);
    prop_oneof![
        floats.prop_map(Value::Float),
        any::<i64>().prop_map(Value::Integer),
        text.prop_map(Value::Text),
        any::<bool>().prop_map(Value::Boolean),
    ]
}

fn point(times: Vec<u64>) -> impl Strategy<Value = Point> {
    let tags = prop::collection::btree_map(awkward(), awkward(), 0..4);
    let fields = prop::collection::btree_map(awkward(), value(), 1..4);
    let time = prop::sample::select(times);
    (awkward(), tags, fields, time).prop_map(|(measurement, tags, fields, time)| Point {
        measurement,
        time: Some(time),
        tags: tags.into_iter().collect(),
        fields: fields.into_iter().collect(),
    })
}

/// Points with measurements of their own, which pass the check.
fn points(times: &[u64], is_wanted: impl Fn(&Point) -> bool) -> Vec<Point> {
    let mut runner = TestRunner::deterministic();
    let strategy = point(times.to_vec());
    let mut points = Vec::new();
    while points.len() < POINTS {
        let mut point = strategy.new_tree(&mut runner).unwrap().current();
        point.measurement.push_str(&points.len().to_string());
        if check(&point).is_ok() && is_wanted(&point) {
            points.push(point);
        }
    }
    points
}

/// Whether two numbers are equal, but for the last digits: VictoriaMetrics keeps 12 of them, and none of the smallest numbers;
/// serde_json reads the last one inexactly.
fn is_near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= f64::max(expected.abs() * 1e-11, 1e-300)
}

fn lines(points: &[Point]) -> Vec<u8> {
    let mut lines = Vec::new();
    for point in points {
        write(&mut lines, point);
    }
    lines
}

#[test]
fn the_parser_of_influxdb_3_reads_back_what_was_written() {
    let times = [0, 1, 999_999_999, 1_700_000_000_123_456_789, MAX_TIME - 1];
    let points = points(&times, |_| true);
    let lines = String::from_utf8(lines(&points)).unwrap();
    let parsed: Vec<_> = parse_lines(&lines).collect();
    assert_eq!(parsed.len(), POINTS);
    for (point, line) in points.iter().zip(parsed) {
        let line = line.unwrap_or_else(|error| panic!("{error}: {point:?}"));
        assert_eq!(line.series.measurement.to_string(), point.measurement);
        let tags = line.series.tag_set.iter().flatten();
        let tags: BTreeMap<String, String> = tags
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        assert_eq!(tags, point.tags.iter().cloned().collect(), "{point:?}");
        let fields = line.field_set.iter().map(|(key, value)| {
            let value = match value {
                FieldValue::F64(number) => Value::Float(*number),
                FieldValue::I64(number) => Value::Integer(*number),
                FieldValue::String(text) => Value::Text(text.to_string()),
                FieldValue::Boolean(truth) => Value::Boolean(*truth),
                FieldValue::U64(_) => panic!("the store writes no unsigned integers"),
            };
            (key.to_string(), value)
        });
        let mut fields: Vec<(String, Value)> = fields.collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(fields, point.fields, "{point:?}");
        let time = line.timestamp.and_then(|time| u64::try_from(time).ok());
        assert_eq!(time, point.time, "{point:?}");
    }
}

#[tokio::test]
async fn influxdb_reads_back_what_was_written() {
    let Some(influxd) = program("influxd") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let path = folder.path().display();
    let config = format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{}\"\n[meta]\ndir = \"{path}/meta\"\n[data]\ndir = \"{path}/data\"\nwal-dir = \"{path}/wal\"\n[http]\nbind-address = \"127.0.0.1:{port}\"\nlog-enabled = false\n[monitor]\nstore-enabled = false\n",
        free_port()
    );
    let file = folder.path().join("influxdb.conf");
    std::fs::write(&file, config).unwrap();
    let server = Server::start(Command::new(influxd).arg("-config").arg(file), port, folder).await;
    server
        .post("/query?q=CREATE+DATABASE+test", Vec::new())
        .await;
    let points = points(
        &[0, 1, 999_999_999, 1_700_000_000_123_456_789, MAX_TIME - 1],
        |_| true,
    );
    server
        .post("/write?db=test&precision=ns", lines(&points))
        .await;
    // One query for each measurement: a pattern of names would mix the types of their fields.
    let queries = points.iter().map(|point| {
        let name = point.measurement.replace('\\', r"\\").replace('"', r#"\""#);
        format!("SELECT * FROM \"{name}\" GROUP BY *;")
    });
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("db", "test")
        .append_pair("epoch", "ns")
        .append_pair("q", &queries.collect::<String>())
        .finish();
    let request = server
        .client
        .post(format!("{}/query", server.url))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let answer = request.send().await.unwrap().bytes().await.unwrap();
    let answer: Json = serde_json::from_slice(&answer).unwrap();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), POINTS);
    for (point, result) in points.into_iter().zip(results) {
        let series = &result["series"][0];
        assert_eq!(series["name"], *point.measurement, "{result}");
        let tags = series["tags"].as_object();
        let tags: BTreeMap<&str, &str> = tags
            .into_iter()
            .flatten()
            .map(|(key, value)| (&**key, value.as_str().unwrap()))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let expected = point.tags.iter().map(|(key, value)| (&**key, &**value));
        assert_eq!(tags, expected.collect(), "{point:?}");
        let columns = series["columns"].as_array().unwrap();
        let row = series["values"][0].as_array().unwrap();
        let columns = columns.iter().map(|name| name.as_str().unwrap());
        let mut row: BTreeMap<&str, &Json> = columns.zip(row).collect();
        assert_eq!(
            row.remove("time").unwrap().as_u64(),
            point.time,
            "{point:?}"
        );
        assert_eq!(row.len(), point.fields.len(), "{point:?}");
        for (key, value) in &point.fields {
            let found = row[&**key];
            let is_equal = match value {
                Value::Float(number) => is_near(found.as_f64().unwrap(), *number),
                Value::Integer(number) => found.as_i64() == Some(*number),
                Value::Text(text) => found.as_str() == Some(text),
                Value::Boolean(truth) => found.as_bool() == Some(*truth),
            };
            assert!(is_equal, "{key}: {found} in {point:?}");
        }
    }
}

#[tokio::test]
async fn victoria_metrics_reads_back_what_was_written() {
    let Some(victoria_metrics) = program("victoria-metrics") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = Command::new(victoria_metrics);
    command
        .arg(format!("-storageDataPath={}", folder.path().display()))
        .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
        .arg("-influxMeasurementFieldSeparator=::");
    let server = Server::start(&mut command, port, folder).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_nanos() as u64;
    // Its parser takes a quote in a field's name for the start of a string, and a line feed in a string for the end of the point.
    let is_plain = |(name, value): &(String, Value)| {
        let is_one_line = !matches!(value, Value::Text(text) if text.contains('\n'));
        is_one_line && !name.contains('"')
    };
    let times = [now, now - 1_000_000_000];
    let points = points(&times, |point| point.fields.iter().all(is_plain));
    server
        .post("/influx/api/v2/write?precision=ns", lines(&points))
        .await;
    // Booleans are 1 and 0 there; it has no text.
    let mut expected = BTreeMap::new();
    for point in &points {
        for (key, value) in &point.fields {
            let number = match value {
                Value::Float(number) => *number,
                Value::Integer(number) => *number as f64,
                Value::Boolean(truth) => f64::from(u8::from(*truth)),
                Value::Text(_) => continue,
            };
            let mut labels: BTreeMap<String, String> = point.tags.iter().cloned().collect();
            labels.insert("__name__".into(), format!("{}::{key}", point.measurement));
            expected.insert(labels, (number, point.time.unwrap() / 1_000_000));
        }
    }
    let start = Instant::now();
    loop {
        let query = [("match[]", "{__name__!=\"\"}")];
        let request = server
            .client
            .get(format!("{}/api/v1/export", server.url))
            .query(&query);
        let answer = request.send().await.unwrap().text().await.unwrap();
        let found: BTreeMap<BTreeMap<String, String>, (f64, u64)> = answer
            .lines()
            .map(|line| {
                let line: Json = serde_json::from_str(line).unwrap();
                let labels = serde_json::from_value(line["metric"].clone()).unwrap();
                let (value, time) = (&line["values"][0], &line["timestamps"][0]);
                (labels, (value.as_f64().unwrap(), time.as_u64().unwrap()))
            })
            .collect();
        let missing: Vec<_> = expected
            .keys()
            .filter(|labels| !found.contains_key(*labels))
            .collect();
        if !missing.is_empty() && start.elapsed() < Duration::from_secs(60) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        assert!(missing.is_empty(), "{missing:#?}");
        for (labels, (number, time)) in &expected {
            let (value, at) = found[labels];
            assert_eq!(at, *time, "{labels:?}");
            assert!(is_near(value, *number), "{value} for {number}: {labels:?}");
        }
        break;
    }
}
