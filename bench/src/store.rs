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

/// Time of the first point of a writer, which tells its points from those of others: its points are a nanosecond apart.
fn first_time(writer: usize) -> u64 {
    1_700_000_000_000_000_000 + writer as u64 * 1_000_000_000
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
                let mut missing = 0;
                for (writer, &points) in acknowledged.iter().enumerate() {
                    missing += points - stored(&store, first_time(writer), points).await?;
                }
                print(&json!({ "missing": missing }))?;
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
            for time in first_time(writer).. {
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

/// Returns how many points the store has of `points` ones from `start` on, a nanosecond apart.
async fn stored(store: &Store, start: u64, points: u64) -> anyhow::Result<u64> {
    let query = Query {
        measurement: "calls".into(),
        field: "latency".into(),
        aggregation: Aggregation::Count,
        start: Some(start),
        stop: Some(start + points),
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
