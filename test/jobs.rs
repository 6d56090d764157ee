//! Durable jobs, over a real NATS server with JetStream.

mod common;

#[path = "common/nats.rs"]
mod nats;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use common::{Answer, Host, answer, client, component, eventually, recording, state_dir};
use nats::Nats;
use serde_json::Value;

/// Handlers whose requests wait as jobs.
fn probe() -> String {
    let mut manifest = "spin_manifest_version = 2\n[application]\nname = \"jobs\"\n".to_owned();
    for name in ["trap", "sleep", "hello"] {
        manifest += &format!(
            r#"
[[trigger.http]]
route = "/{name}"
jobs = "/jobs/{name}"
component = "{name}"

[component.{name}]
source = "{}"

[component.{name}.tool.whisper-host.limits]
concurrency = 4
"#,
            component("probe-wasi02")
        );
    }
    manifest
}

async fn delete(host: &Host, path: &str) -> Answer {
    let request = client().delete(format!("{}{path}", host.url));
    answer(request.send().await.unwrap()).await
}

/// Creates a job, and returns its path.
async fn create(host: &Host, path: &str, body: impl Into<reqwest::Body>) -> String {
    let created = host.post(path, body).await;
    assert_eq!(created.status, 202, "{}", created.text);
    let location = created.headers["location"].to_str().unwrap().to_owned();
    let job = created.json();
    assert_eq!(job["status"], "queued");
    assert!(
        location.ends_with(job["id"].as_str().unwrap()),
        "{location}"
    );
    location
}

/// Waits until no job is in the stream.
async fn none_is_left(context: &jetstream::Context) {
    let mut waiting = context.get_stream("whisper-jobs").await.unwrap();
    eventually(async || {
        let messages = waiting.info().await.unwrap().state.messages;
        (messages == 0).then_some(())
    })
    .await;
}

/// Waits until a job has ended.
async fn ended(host: &Host, job: &str) -> Value {
    eventually(async || {
        let job = host.get(job).await.json();
        let status = job["status"].as_str().unwrap_or_else(|| panic!("{job}"));
        (!["queued", "running"].contains(&status)).then_some(job)
    })
    .await
}

#[tokio::test]
async fn a_job_has_the_answer_of_a_request_as_its_result() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let host = Host::with(state_dir(), &["--nats", &nats.url()]);
    let audio = recording("story.mp3");
    let job = create(&host, "/jobs?timestamps=segment", audio.clone()).await;
    assert!(job.starts_with("/jobs/"), "{job}");
    let done = ended(&host, &job).await;
    assert_eq!(done["status"], "done", "{done}");
    assert_eq!(done["attempts"], 1);
    let expected = host
        .post("/analyze?timestamps=segment", audio.clone())
        .await;
    assert_eq!(done["result"], expected.json());
    // A form, as with `curl -F file=@`.
    let part = reqwest::multipart::Part::bytes(audio).file_name("story.mp3");
    let form = reqwest::multipart::Form::new().part("file", part);
    let request = client().post(format!("{}/jobs", host.url)).multipart(form);
    let created = answer(request.send().await.unwrap()).await;
    let location = created.headers["location"].to_str().unwrap();
    let done = ended(&host, location).await;
    assert_eq!(
        done["result"]["transcription"],
        expected.json()["transcription"]
    );
    // An error is final, and the same as that of a request.
    let job = create(&host, "/jobs", "garbage").await;
    let failed = ended(&host, &job).await;
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["attempts"], 1);
    let expected = host.post("/analyze", "garbage").await;
    assert_eq!(failed["error"], expected.json()["error"]);
    // The calls are on record.
    assert_eq!(host.get("/stats").await.json()["total_calls"], 3);
    // A job that has ended is removed.
    assert_eq!(delete(&host, &job).await.status, 204);
    assert_eq!(host.get(&job).await.error(), (404, "not_found".into()));
    assert_eq!(delete(&host, &job).await.status, 404);
    assert_eq!(host.get("/jobs/1").await.status, 404);
    assert_eq!(host.get("/jobs").await.status, 405);
}

#[tokio::test]
async fn the_body_of_a_job_is_limited_like_that_of_a_request() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let limits = "request_body = \"64KiB\"\nbody_idle = \"1s\"\nbody_progress = \"16KiB\"\n";
    let manifest = common::default_manifest_with(limits);
    let host = Host::with_manifest(&manifest, &["--nats", &nats.url()]);
    let pieces = |pieces: Vec<Vec<u8>>, pause| {
        let pieces = futures::stream::iter(pieces);
        reqwest::Body::wrap_stream(futures::StreamExt::then(pieces, move |piece| async move {
            tokio::time::sleep(pause).await;
            std::io::Result::Ok(piece)
        }))
    };
    let too_large = (413, "body_too_large".to_owned());
    assert_eq!(
        host.post("/jobs", vec![0; 65 << 10]).await.error(),
        too_large
    );
    let chunked = pieces(vec![vec![0; 40 << 10]; 2], Duration::ZERO);
    assert_eq!(host.post("/jobs", chunked).await.error(), too_large);
    let trickling = pieces(vec![vec![0; 16]; 100], Duration::from_millis(200));
    let too_slow = (408, "request_timeout".to_owned());
    assert_eq!(host.post("/jobs", trickling).await.error(), too_slow);
}

#[tokio::test]
async fn without_nats_jobs_are_refused_with_the_way_to_have_them() {
    let host = Host::start();
    let refused = host.post("/jobs", recording("garden.flac")).await;
    assert_eq!(refused.error(), (503, "overloaded".into()));
    assert!(refused.message().contains("--nats"), "{}", refused.text);
}

#[tokio::test]
async fn a_job_that_kills_its_instance_fails_after_its_attempts_and_blocks_nobody() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let host = Host::with_manifest(&probe(), &["--nats", &nats.url(), "--jobs-attempts", "2"]);
    let poison = create(&host, "/jobs/trap", "poison").await;
    let other = create(&host, "/jobs/hello", "").await;
    let done = ended(&host, &other).await;
    assert_eq!(done["status"], "done");
    assert_eq!(done["result"], "hello");
    let failed = ended(&host, &poison).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    assert_eq!(failed["attempts"], 2);
    assert_eq!(failed["error"]["code"], "component_trap");
    // It is kept for people, with the reason.
    let context = jetstream::new(nats.client().await);
    let stream = context.get_stream("whisper-jobs-failed").await.unwrap();
    let kept = stream
        .get_last_raw_message_by_subject("whisper-jobs-failed.trap")
        .await
        .unwrap();
    let kept: Value = serde_json::from_slice(&kept.payload).unwrap();
    assert_eq!(
        kept["state"]["failed"]["error"]["code"], "component_trap",
        "{kept}"
    );
    assert_eq!(kept["attempts"], 2);
    let mut waiting = context.get_stream("whisper-jobs").await.unwrap();
    assert_eq!(waiting.info().await.unwrap().state.messages, 0);
}

#[tokio::test]
async fn a_job_can_be_cancelled_while_it_waits_and_while_it_runs() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let host = Host::with_manifest(&probe(), &["--nats", &nats.url()]);
    // Half of the permits are for jobs: two run, the others wait.
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(create(&host, "/jobs/sleep", "").await);
    }
    let status = async |job: &str| host.get(job).await.json()["status"].clone();
    eventually(async || (status(&jobs[1]).await == "running").then_some(())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(status(&jobs[3]).await, "queued");
    eventually(async || {
        let url = format!("{}/metrics", host.admin);
        let metrics = client()
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let has = |name: &str| metrics.contains(&format!("{name}{{component=\"sleep\"}} 2\n"));
        (has("whisper_host_jobs_waiting") || has("whisper_host_jobs_taken")).then_some(())
    })
    .await;
    for job in [&jobs[3], &jobs[0]] {
        assert_eq!(delete(&host, job).await.status, 204);
        assert_eq!(status(job).await, "cancelled");
    }
    // The permit of the one that ran is free.
    eventually(async || (status(&jobs[2]).await == "running").then_some(())).await;
    for job in [&jobs[1], &jobs[2]] {
        assert_eq!(delete(&host, job).await.status, 204);
    }
    let context = jetstream::new(nats.client().await);
    none_is_left(&context).await;
}

#[tokio::test]
async fn a_worker_that_stops_hands_its_jobs_back() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let arguments = ["--nats", &nats.url(), "--shutdown-timeout", "0s"];
    let mut first = Host::with_manifest(&probe(), &arguments);
    let job = create(&first, "/jobs/sleep", "").await;
    eventually(async || (first.get(&job).await.json()["status"] == "running").then_some(())).await;
    let second = Host::with_manifest(&probe(), &arguments);
    first.signal(rustix::process::Signal::TERM);
    assert_eq!(first.exit_code().await, Some(0));
    // At once, not only when the first has been silent for 30 seconds; and it does not count as an attempt.
    let stopped = Instant::now();
    let running = eventually(async || {
        let job = second.get(&job).await.json();
        (job["status"] == "running").then_some(job)
    })
    .await;
    assert!(stopped.elapsed() < Duration::from_secs(20));
    assert_eq!(running["attempts"], 1, "{running}");
}

/// Three hosts, two of which are killed at random and started again, and the server, too: every job ends once.
#[tokio::test]
async fn every_job_ends_once_while_workers_and_the_server_are_killed() {
    const JOBS: usize = 500;
    let Some(mut nats) = Nats::start().await else {
        return;
    };
    let url = nats.url();
    let start = || {
        let arguments = [
            "--nats",
            &url,
            "--jobs-ack-wait",
            "2s",
            "--jobs-attempts",
            "20",
        ];
        Host::with(state_dir(), &arguments)
    };
    let front = start();
    let mut workers = [start(), start()];
    let audio = [recording("garden.flac"), b"garbage".to_vec()];
    let mut jobs = Vec::new();
    while jobs.len() < JOBS {
        let round = jobs.len() / 50;
        for _ in 0..50 {
            // One of ten is a recording: they take longer.
            let body = audio[usize::from(jobs.len() % 10 != 9)].clone();
            // The server may be about to start again.
            let created = eventually(async || {
                let created = front.post("/jobs", body.clone()).await;
                (created.status == 202).then_some(created)
            })
            .await;
            jobs.push(created.headers["location"].to_str().unwrap().to_owned());
        }
        if round == 5 {
            nats.kill();
            nats.restart().await;
        } else {
            let worker = &mut workers[round % 2];
            let killed = std::mem::replace(worker, start());
            drop(killed.kill());
        }
    }
    let deadline = Instant::now() + Duration::from_secs(300);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for (index, job) in jobs.iter().enumerate() {
        let outcome = loop {
            let job = front.get(job).await.json();
            let status = job["status"]
                .as_str()
                .unwrap_or_else(|| panic!("{job}"))
                .to_owned();
            if !["queued", "running"].contains(&&*status) {
                break job;
            }
            assert!(Instant::now() < deadline, "{job}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let expected = ["failed", "done"][usize::from(index % 10 == 9)];
        assert_eq!(outcome["status"], expected, "{outcome}");
        *outcomes.entry(expected.to_owned()).or_default() += 1;
    }
    assert_eq!(outcomes["done"], JOBS / 10);
    // None is left, and each that failed is kept once.
    let context = jetstream::new(nats.client().await);
    none_is_left(&context).await;
    let mut failed = context.get_stream("whisper-jobs-failed").await.unwrap();
    let messages = failed.info().await.unwrap().state.messages;
    assert_eq!(messages as usize, JOBS - JOBS / 10);
}
