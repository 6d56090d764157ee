//! An acknowledged point survives the process that wrote it, however it ends.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use timeseries::{Aggregation, Point, Query, Store, Value};

/// Environment variable of the child: the file it writes to.
const PATH: &str = "TIMESERIES_TEST_PATH";

/// Runs in the child process, and is not a test itself: writes from many tasks and prints a line per acknowledged point.
#[test]
fn child() {
    let Some(path) = std::env::var_os(PATH) else {
        return;
    };
    let store = std::sync::Arc::new(Store::open_sqlite(path, None).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for _ in 0..8 {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move {
                loop {
                    let point = Point {
                        measurement: "calls".into(),
                        time: None,
                        tags: Vec::new(),
                        fields: vec![("latency".into(), Value::Float(1.0))],
                    };
                    store.write(vec![point]).await.unwrap();
                    // Bypasses the test harness, which would buffer the line.
                    writeln!(std::io::stderr(), "ack").unwrap();
                }
            });
        }
        // The parent kills this process long before.
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    });
}

#[tokio::test]
async fn acknowledged_points_survive_a_killed_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("points.db");
    let mut acknowledged = 0;
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(PATH, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines
            .by_ref()
            .take(200)
            .filter(|line| matches!(line.as_deref(), Ok("ack")))
            .count();
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged += first
            + lines
                .filter(|line| matches!(line.as_deref(), Ok("ack")))
                .count();
        assert!(acknowledged >= 200);

        let store = Store::open_sqlite(&path, None).unwrap();
        let count = Query {
            measurement: "calls".into(),
            field: "latency".into(),
            aggregation: Aggregation::Count,
            start: None,
            stop: None,
            tags: Vec::new(),
        };
        let count = store.aggregate(count).await.unwrap().unwrap();
        assert!(
            count >= acknowledged as f64,
            "{count} points for {acknowledged} acknowledged"
        );
    }
}
