//! `whisper-host stats`: sums up the calls of a running host.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admin::client_for;
use crate::options::positive_duration;
use crate::output::outln;
use crate::scheduler;

#[derive(Args)]
pub struct Stats {
    /// The route with the statistics.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8000/stats"
    )]
    url: String,

    /// Only calls since then, such as `1h` or `7d`.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = positive_duration)]
    since: Duration,

    /// Only calls of this model.
    #[arg(long, value_name = "ID")]
    model: Option<String>,

    /// Only calls in this language.
    #[arg(long, value_name = "LANGUAGE")]
    language: Option<String>,

    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// Number of intervals of the time that are counted.
const INTERVALS: u32 = 24;

/// The answer of `/stats` with percentiles.
#[derive(Deserialize)]
struct Answer {
    total_calls: u64,
    average_audio_length: String,
    #[serde(default)]
    p50_latency: f64,
    #[serde(default)]
    p95_latency: f64,
    #[serde(default)]
    p99_latency: f64,
}

/// What is printed.
#[derive(Serialize)]
struct Summary {
    since_seconds: f64,
    calls: u64,
    failed_calls: u64,
    /// Seconds.
    latency: Latency,
    audio_hours: f64,
    /// Calls in each of the equal intervals of the time, the oldest first.
    calls_by_interval: Vec<u64>,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p95: f64,
    p99: f64,
}

/// Prints the calls, the percentiles of their latency, and the hours of audio.
///
/// # Errors
/// When the host cannot be reached, or responds with an error.
pub fn run(options: &Stats) -> anyhow::Result<ExitCode> {
    let summary = scheduler::start()?.block_on(summary(options))?;
    if options.json {
        outln!("{}", serde_json::to_string(&summary)?);
        return Ok(ExitCode::SUCCESS);
    }
    let Latency { p50, p95, p99 } = summary.latency;
    outln!(
        "calls    {} and {} failed",
        summary.calls,
        summary.failed_calls
    );
    outln!("latency  p50 {p50:.2} s, p95 {p95:.2} s, p99 {p99:.2} s");
    outln!("audio    {:.2} h", summary.audio_hours);
    outln!(
        "last {}  {}",
        humantime::format_duration(options.since),
        sparkline(&summary.calls_by_interval)
    );
    Ok(ExitCode::SUCCESS)
}

async fn summary(options: &Stats) -> anyhow::Result<Summary> {
    let url = Url::parse(&options.url).with_context(|| format!("{} is not a URL", options.url))?;
    let client = client_for(&url)?;
    let get = async |since: Duration, more: &[(&str, &str)]| {
        let since = humantime::format_duration(since).to_string();
        let mut query = vec![("since", &*since)];
        let (model, language) = (options.model.as_deref(), options.language.as_deref());
        query.extend(model.map(|model| ("model", model)));
        query.extend(language.map(|language| ("language", language)));
        query.extend(more);
        get(&client, url.clone(), &query).await
    };
    let percentiles = [("p", "50"), ("p", "95"), ("p", "99")];
    let all = get(options.since, &percentiles).await?;
    let failed = get(options.since, &[("outcome", "failed")]).await?;
    // Calls until now since the end of each interval.
    let mut later = vec![0];
    for interval in 1..INTERVALS {
        let since = options.since / INTERVALS * interval;
        later.push(get(since, &[]).await?.total_calls);
    }
    later.push(all.total_calls);
    later.reverse();
    // Calls that end meanwhile are counted in some intervals only.
    let counts = later.windows(2).map(|two| two[0].saturating_sub(two[1]));
    let length = all.average_audio_length.trim_end_matches('s');
    let length: f64 = length.parse().context("the length of audio is no number")?;
    Ok(Summary {
        since_seconds: options.since.as_secs_f64(),
        calls: all.total_calls,
        failed_calls: failed.total_calls,
        latency: Latency {
            p50: all.p50_latency,
            p95: all.p95_latency,
            p99: all.p99_latency,
        },
        audio_hours: length * all.total_calls as f64 / 3600.0,
        calls_by_interval: counts.collect(),
    })
}

async fn get(client: &Client, url: Url, query: &[(&str, &str)]) -> anyhow::Result<Answer> {
    let response = client.get(url.clone()).query(query).send().await;
    let response = response.with_context(|| {
        format!("cannot reach a host at {url}; start one with `whisper-host up`, or name its statistics with --url")
    })?;
    let status = response.status();
    let answer: Value = response
        .json()
        .await
        .with_context(|| format!("{url} answered {status}, and no statistics"))?;
    if let Some(message) = answer["error"]["message"].as_str() {
        anyhow::bail!("{message}");
    }
    serde_json::from_value(answer).with_context(|| format!("{url} has no statistics"))
}

/// A bar for each number.
fn sparkline(numbers: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = numbers.iter().copied().max().unwrap_or(0).max(1);
    let last = BARS.len() as u64 - 1;
    let bar = |number: u64| BARS[(number * last).div_ceil(most) as usize];
    numbers.iter().map(|&number| bar(number)).collect()
}

#[cfg(test)]
mod tests {
    use super::sparkline;

    #[test]
    fn the_highest_bar_is_the_largest_number_and_only_zero_the_lowest() {
        assert_eq!(sparkline(&[0, 1, 7, 14]), "▁▂▅█");
        assert_eq!(sparkline(&[0, 0]), "▁▁");
    }
}
