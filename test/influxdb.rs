//! The record of calls in InfluxDB, with a server that speaks its API (`host/timeseries/tests/influx/`).

mod common;
#[path = "../host/timeseries/tests/influx/flux.rs"]
mod flux;
#[path = "../host/timeseries/tests/influx/server.rs"]
mod server;

use common::{Host, eventually, recording, state_dir};
use server::{ORG, Server, TOKEN};

fn url(server: &Server) -> String {
    format!("influxdb://{}?org={ORG}&bucket=calls", server.address)
}

fn host(url: &str, state: tempfile::TempDir) -> Host {
    Host::with_environment(state, &["--stats-store", url], &[("INFLUX_TOKEN", TOKEN)])
}

/// The number of calls; on a busy machine, InfluxDB may not answer in time at first.
async fn total_calls(host: &Host) -> u64 {
    eventually(async || {
        let answer = host.get("/stats").await;
        (answer.status == 200).then(|| answer.json()["total_calls"].as_u64().unwrap())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_call_counts_at_once_and_arrives_once_even_after_a_crash() {
    let server = Server::start().await;
    let url = url(&server);
    let first = host(&url, state_dir());
    assert!(
        first
            .start_up
            .contains("bucket `calls` of `speech` (InfluxDB)"),
        "{}",
        first.start_up
    );
    for count in 1..=3 {
        first.post("/analyze", recording("garden.flac")).await;
        assert_eq!(total_calls(&first).await, count);
    }
    // Without an answer of the server for the last ones.
    let stopped = server.stop().await;
    for _ in 0..2 {
        let answer = first.post("/analyze", recording("garden.flac")).await;
        assert_eq!(answer.status, 200);
    }
    let state = first.kill();
    let server = stopped.start().await;
    let second = host(&url, state);
    assert_eq!(total_calls(&second).await, 5);
    eventually(async || (server.state().points.len() == 5).then_some(())).await;
    assert_eq!(total_calls(&second).await, 5);
    let ((measurement, tags), fields) = {
        let state = server.state();
        let ((series, _), fields) = state.points.first_key_value().unwrap();
        (series.clone(), fields.clone())
    };
    assert_eq!(measurement, "calls");
    for tag in [("outcome", "ok"), ("model", "whisper"), ("trigger", "http")] {
        assert!(tags.contains(&(tag.0.into(), tag.1.into())), "{tags:?}");
    }
    let keys: Vec<&String> = fields.keys().collect();
    assert_eq!(keys, ["audio_length", "latency"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_influxdb_recordings_are_transcribed_and_statistics_are_unavailable() {
    let server = Server::start().await;
    let url = url(&server);
    drop(server.stop().await);
    let host = host(&url, state_dir());
    host.wait_for_log(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("InfluxDB cannot be used yet")
    })
    .await;
    let answer = host.post("/analyze", recording("garden.flac")).await;
    assert_eq!(answer.status, 200);
    let answer = host.get("/stats").await;
    assert_eq!(answer.error(), (503, "unavailable".into()));
    assert_eq!(answer.headers["retry-after"], "5");
    assert!(
        answer.text.contains("InfluxDB cannot be asked"),
        "{}",
        answer.text
    );
    assert!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
    let line = host
        .wait_for_log(|line| line["message"] == "InfluxDB cannot be asked")
        .await;
    let reason = line["reason"].as_str().unwrap();
    assert!(
        reason.contains("start it, or check its address"),
        "{reason}"
    );
    let log = std::fs::read_to_string(host.state.path().join("log")).unwrap();
    assert!(!log.contains(TOKEN) && !answer.text.contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_for_influxdb_is_said_at_the_start() {
    let server = Server::start().await;
    let url = url(&server);
    let run = |url: &str, token: Option<&str>| {
        let state = state_dir();
        let mut command = common::whisper_host();
        command
            .args([
                "up",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--stats-store",
                url,
            ])
            .arg("--state-dir")
            .arg(state.path());
        match token {
            Some(token) => command.env("INFLUX_TOKEN", token),
            None => command.env_remove("INFLUX_TOKEN"),
        };
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        async move {
            let output = output.await.unwrap();
            drop(state);
            assert!(!output.status.success());
            String::from_utf8(output.stderr).unwrap()
        }
    };
    let said = run(&url, None).await;
    assert!(
        said.contains("set the environment variable INFLUX_TOKEN, or give --influx-token-file"),
        "{said}"
    );
    let said = run(&url, Some("wrong")).await;
    assert!(
        said.contains("give a token that may read and write bucket `calls`"),
        "{said}"
    );
    let said = run("influxdb://localhost:8086?org=a", Some("token")).await;
    assert!(said.contains("there is no `bucket`"), "{said}");
    let said = run("mysql://localhost", Some("token")).await;
    assert!(said.contains("must be `sqlite` or influxdb://"), "{said}");
}
