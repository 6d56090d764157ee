//! The store of points alone, in a process that can be killed.
//!
//! `bench store FILE` takes commands from standard input, like the host of `main.rs`:
//!
//! | command | response |
//! |---|---|
//! | `record N` | `seconds`: the time of each of N writes of a point, one after the other |
//! | `flood N` | lines without end from N writers at once: how many points of each are `acknowledged`, after so many `seconds` |
//! | `missing A B …` | how many of the first A points of the first writer, of the first B of the second, … are `missing` |

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use timeseries::{Aggregation, Point, Query, Store, Value};

use crate::output::print;

/// Time between two lines of `flood`.
const PERIOD: Duration = Duration::from_millis(20);

/// Time of a writer's point. No other point has it, and times rise as they do for calls.
fn time(writer: usize, writers: usize, point: u64) -> u64 {
    1_700_000_000_000_000_000 + point * writers as u64 + writer as u64
}

/// Runs the commands.
pub async fn run(file: &Path, commands: impl BufRead) -> anyhow::Result<()> {
    let store = Arc::new(Store::open_sqlite(file, None)?);
    for line in commands.lines() {
        let line = line?;
        let mut words = line.split(' ');
        let command = words.next().unwrap_or_default();
        let numbers = words.map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        match (command, &*numbers) {
            ("record", [number]) => {
                let mut seconds = Vec::new();
                for _ in 0..*number {
                    let begun = Instant::now();
                    store.write(vec![call(None)]).await?;
                    seconds.push(begun.elapsed().as_secs_f64());
                }
                print(&json!({ "seconds": seconds }))?;
            }
            ("flood", [writers]) => flood(&store, *writers as usize).await?,
            ("missing", acknowledged) => {
                print(&json!({ "missing": missing(&store, acknowledged).await? }))?;
            }
            _ => anyhow::bail!("unknown command {line:?}"),
        }
    }
    Ok(())
}

async fn flood(store: &Arc<Store>, writers: usize) -> anyhow::Result<()> {
    let acknowledged: Arc<[AtomicU64]> = (0..writers).map(|_| AtomicU64::new(0)).collect();
    let begun = Instant::now();
    for writer in 0..writers {
        let (store, acknowledged) = (Arc::clone(store), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            for point in 0.. {
                let time = time(writer, writers, point);
                if store.write(vec![call(Some(time))]).await.is_err() {
                    break;
                }
                acknowledged[writer].fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    loop {
        tokio::time::sleep(PERIOD).await;
        let points: Vec<u64> = acknowledged
            .iter()
            .map(|points| points.load(Ordering::Relaxed))
            .collect();
        print(&json!({ "acknowledged": points, "seconds": begun.elapsed().as_secs_f64() }))?;
    }
}

/// Returns how many of the acknowledged points the store has not.
async fn missing(store: &Store, acknowledged: &[u64]) -> anyhow::Result<u64> {
    let writers = acknowledged.len();
    // Of all writers, and then the rest of each.
    let common = acknowledged.iter().copied().min().unwrap_or_default();
    let mut found = stored(store, time(0, writers, 0), time(0, writers, common)).await?;
    for (writer, &points) in acknowledged.iter().enumerate() {
        for point in common..points {
            let time = time(writer, writers, point);
            found += stored(store, time, time + 1).await?;
        }
    }
    Ok(acknowledged.iter().sum::<u64>() - found)
}

/// Returns how many points the store has from `start` to before `stop`.
async fn stored(store: &Store, start: u64, stop: u64) -> anyhow::Result<u64> {
    let query = Query {
        measurement: "calls".into(),
        field: "latency".into(),
        aggregation: Aggregation::Count,
        start: Some(start),
        stop: Some(stop),
        tags: Vec::new(),
    };
    Ok(store.aggregate(query).await?.unwrap_or_default() as u64)
}

/// A call, as the component `stats` records it.
fn call(time: Option<u64>) -> Point {
    let tags = [
        ("trigger", "http"),
        ("status", "ok"),
        ("outcome", "ok"),
        ("model", "whisper"),
        ("language", "en"),
    ];
    Point {
        measurement: "calls".into(),
        time,
        tags: tags.map(|(name, value)| (name.into(), value.into())).into(),
        fields: vec![
            ("latency".into(), Value::Float(0.25)),
            ("audio_length".into(), Value::Float(11.5)),
        ],
    }
}
