//! Hosts that share the work over a real NATS server: some handle requests, others have the model.

mod common;

#[path = "common/nats.rs"]
mod nats;

use std::time::Duration;

use common::{Answer, Host, client, eventually, recording, state_dir, whisper_host};
use nats::Nats;

fn host(nats: &Nats, role: &str) -> Host {
    Host::with(state_dir(), &["--nats", &nats.url(), "--role", role])
}

/// Whether the host has loaded what runs models.
fn runs_models(host: &Host) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", host.id())).unwrap();
    maps.contains("libonnxruntime")
}

#[tokio::test]
async fn a_host_without_a_model_hands_requests_to_workers() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let (front, worker, all) = (host(&nats, "http"), host(&nats, "worker"), Host::start());
    assert!(!runs_models(&front) && runs_models(&worker));
    let same = |one: &Answer, other: &Answer| {
        assert_eq!(one.status, other.status, "{}", one.text);
        assert_eq!(one.headers["content-type"], other.headers["content-type"]);
        assert_eq!(one.text, other.text);
    };
    for (path, name) in [
        ("/analyze", "story.mp3"),
        ("/analyze?timestamps=segment&language=en", "garden.flac"),
        ("/analyze?language=xx", "garden.flac"),
        ("/analyze", "numbers.txt"),
    ] {
        let (one, other) = (
            front.post(path, recording(name)).await,
            all.post(path, recording(name)).await,
        );
        same(&one, &other);
    }
    let fields = [("language", "en"), ("timestamps", "segment")];
    same(
        &front
            .analyze("story.mp3", recording("story.mp3"), &fields)
            .await,
        &all.analyze("story.mp3", recording("story.mp3"), &fields)
            .await,
    );
    same(&front.get("/analyze").await, &all.get("/analyze").await);
    // Whatever needs no model is handled at once.
    assert_eq!(front.get("/stats").await.status, 200);
    assert_eq!(front.get("/nowhere").await.status, 404);
    // Jobs are run by workers, too.
    let created = front.post("/jobs", recording("garden.flac")).await;
    let job = created.headers["location"].to_str().unwrap();
    let done = eventually(async || {
        let job = front.get(job).await.json();
        (job["status"] == "done").then_some(job)
    })
    .await;
    let expected = all.post("/analyze", recording("garden.flac")).await;
    assert_eq!(done["result"], expected.json());
    // The calls are on record, though workers handled them.
    let calls = async |host: &Host| host.get("/stats").await.json()["total_calls"].clone();
    let expected = calls(&all).await;
    eventually(async || (calls(&front).await == expected).then_some(())).await;
    // A worker says what it is.
    let refused = worker.post("/analyze", recording("garden.flac")).await;
    assert_eq!(refused.error(), (404, "not_found".into()));
    assert!(refused.message().contains("--role"), "{}", refused.text);
    assert_eq!(worker.get("/healthz").await.status, 200);
    // Nothing of the requests is left in JetStream, only the record of the job.
    left(&nats, 1).await;
}

/// Waits until so many records are left in JetStream, and no body.
async fn left(nats: &Nats, records: u64) {
    let context = async_nats::jetstream::new(nats.client().await);
    for (stream, expected) in [("KV_whisper-jobs", records), ("OBJ_whisper-jobs", 0)] {
        let mut stream = context.get_stream(stream).await.unwrap();
        eventually(async || {
            let messages = stream.info().await.unwrap().state.messages;
            (messages == expected).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_request_waits_for_a_worker_and_ends_without_one() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let limits = "queue_timeout = \"2s\"\ntimeout = \"1m\"\n";
    let manifest = common::default_manifest_with(limits);
    let url = nats.url();
    let start = |role| Host::with_manifest(&manifest, &["--nats", &url, "--role", role]);
    let front = start("http");
    let answer = front.post("/analyze", recording("garden.flac")).await;
    assert_eq!(answer.error(), (503, "overloaded".into()));
    assert!(answer.message().contains("no worker"), "{}", answer.text);
    assert!(answer.headers.contains_key("retry-after"));
    // Nobody wants that request any more.
    let worker = start("worker");
    let answer = front.post("/analyze", recording("garden.flac")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let metrics = client().get(format!("{}/metrics", worker.admin));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    let count = metrics.lines().find(|line| {
        line.starts_with("whisper_host_invocations_total") && line.contains("\"analyze\"")
    });
    assert!(count.unwrap().ends_with(" 1"), "{count:?}");
}

#[tokio::test]
async fn a_client_with_many_requests_does_not_delay_another() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let manifest = r#"
spin_manifest_version = 2
[application]
name = "fair"

[[trigger.http]]
route = "/..."
component = "probe"

[component.probe]
source = "{components}/probe-wasi02.wasm"
ai_models = ["whisper"]

[component.probe.tool.whisper-host.limits]
concurrency = 4
queue_timeout = "5m"
"#;
    let url = nats.url();
    let start = |role| Host::with_manifest(manifest, &["--nats", &url, "--role", role]);
    let (front, _worker) = (start("http"), start("worker"));
    let request = |last: u8, path: &str| {
        let address = std::net::IpAddr::from([127, 0, 0, last]);
        let client = common::client_builder().local_address(address);
        client
            .build()
            .unwrap()
            .post(format!("{}{path}", front.url))
            .send()
    };
    // Five minutes of work, for a worker that does two of them at once.
    let many: Vec<_> = (0..200)
        .map(|_| tokio::spawn(request(2, "/pause?3000")))
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let answer = tokio::time::timeout(common::PATIENCE, request(3, "/hello")).await;
    assert_eq!(answer.unwrap().unwrap().status(), 200);
    assert!(many.iter().filter(|request| !request.is_finished()).count() > 100);
    for request in many {
        request.abort();
    }
    left(&nats, 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_worker() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let (front, worker) = (host(&nats, "http"), host(&nats, "worker"));
    // Minutes of speech.
    let audio = common::wav(1200.0, |i| ((i * 7919) % 20000) as i16 - 10000);
    let request = client().post(format!("{}/analyze", front.url)).body(audio);
    let request = tokio::time::timeout(Duration::from_secs(3), request.send());
    assert!(request.await.is_err());
    worker
        .wait_for_log(|line| line["message"] == "job" && line["outcome"] == "cancelled")
        .await;
    left(&nats, 0).await;
    let answer = front.post("/analyze", recording("garden.flac")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn a_request_survives_the_end_of_its_worker_and_of_the_server() {
    let Some(mut nats) = Nats::start().await else {
        return;
    };
    let url = nats.url();
    let start = |role| {
        let arguments = ["--nats", &url, "--role", role, "--jobs-ack-wait", "1s"];
        Host::with(state_dir(), &arguments)
    };
    let (front, first) = (start("http"), start("worker"));
    let expected = front.post("/analyze", recording("journey.ogg")).await;
    assert_eq!(expected.status, 200, "{}", expected.text);
    let audio = recording("journey.ogg");
    let url = format!("{}/analyze", front.url);
    let request = tokio::spawn(client().post(url).body(audio).send());
    // Killed while it runs the request, or just before.
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(first.kill());
    let _second = start("worker");
    let answer = common::answer(request.await.unwrap().unwrap()).await;
    assert_eq!((answer.status, &answer.text), (200, &expected.text));
    // Without NATS the host cannot do its part.
    assert_eq!(front.get("/readyz").await.json()["nats"], "connected");
    nats.kill();
    eventually(async || (front.get("/readyz").await.status == 503).then_some(())).await;
    let refused = front.post("/analyze", recording("garden.flac")).await;
    assert_eq!(refused.error(), (503, "overloaded".into()));
    nats.restart().await;
    let answer = eventually(async || {
        let answer = front.post("/analyze", recording("garden.flac")).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert!(!answer.transcription().is_empty());
}

#[test]
fn a_role_needs_nats() {
    let state = state_dir();
    let output = whisper_host()
        .args(["up", "--role", "http", "--state-dir"])
        .arg(state.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("--nats"), "{error}");
}
