//! The store of points alone, in a process that can be killed.
//!
//! `bench store FILE` takes commands from standard input, like the host of `main.rs`:
//!
//! | command | response |
//! |---|---|
//! | `record N` | `seconds`: the time of each of N writes of a point, one after the other |
//! | `flood N` | lines without end from N writers at once: `acknowledged` points, after so many `seconds` |
//! | `count` | `points` in the file |

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use timeseries::{Aggregation, Point, Query, Store, Value};

use crate::output::print;

/// Time between two lines of `flood`.
const PERIOD: Duration = Duration::from_millis(20);

/// Runs the commands.
pub async fn run(file: &Path, commands: impl BufRead) -> anyhow::Result<()> {
    let store = Arc::new(Store::open_sqlite(file, None)?);
    for line in commands.lines() {
        let line = line?;
        let (command, number) = line.split_once(' ').unwrap_or((&line, "0"));
        let number: u64 = number.parse()?;
        match command {
            "record" => {
                let mut seconds = Vec::new();
                for _ in 0..number {
                    let begun = Instant::now();
                    store.write(vec![call()]).await?;
                    seconds.push(begun.elapsed().as_secs_f64());
                }
                print(&json!({ "seconds": seconds }))?;
            }
            "flood" => flood(&store, number).await?,
            "count" => {
                let query = Query {
                    measurement: "calls".into(),
                    field: "latency".into(),
                    aggregation: Aggregation::Count,
                    start: None,
                    stop: None,
                    tags: Vec::new(),
                };
                let points = store.aggregate(query).await?;
                print(&json!({ "points": points }))?;
            }
            _ => anyhow::bail!("unknown command {command:?}"),
        }
    }
    Ok(())
}

async fn flood(store: &Arc<Store>, writers: u64) -> anyhow::Result<()> {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    for _ in 0..writers {
        let (store, acknowledged) = (Arc::clone(store), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            while store.write(vec![call()]).await.is_ok() {
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut last = 0;
    loop {
        tokio::time::sleep(PERIOD).await;
        let points = acknowledged.load(Ordering::Relaxed);
        anyhow::ensure!(points > last, "no writer writes");
        last = points;
        print(&json!({ "acknowledged": points, "seconds": begun.elapsed().as_secs_f64() }))
            .context("nobody reads")?;
    }
}

/// A call, as the component `stats` records it.
fn call() -> Point {
    let tags = [
        ("trigger", "http"),
        ("status", "ok"),
        ("outcome", "ok"),
        ("model", "whisper"),
        ("language", "en"),
    ];
    Point {
        measurement: "calls".into(),
        time: None,
        tags: tags.map(|(name, value)| (name.into(), value.into())).into(),
        fields: vec![
            ("latency".into(), Value::Float(0.25)),
            ("audio_length".into(), Value::Float(11.5)),
        ],
    }
}
