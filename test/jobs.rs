//! Durable jobs, over a real NATS server with JetStream.

mod common;

#[path = "common/nats.rs"]
mod nats;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use base64::Engine as _;
use bytes::Bytes;
use common::{Answer, Host, answer, client, component, eventually, recording, state_dir};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nats::Nats;
use serde_json::Value;
use tokio::sync::mpsc;

/// Handlers whose requests wait as jobs.
fn probe() -> String {
    let mut manifest = "spin_manifest_version = 2\n[application]\nname = \"jobs\"\n".to_owned();
    for name in ["trap", "sleep", "hello", "pause", "large-refusal", "echo"] {
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
    let error: Value =
        serde_json::from_str(kept["state"]["failed"]["body"].as_str().unwrap()).unwrap();
    assert_eq!(error["error"]["code"], "component_trap", "{kept}");
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

#[tokio::test]
async fn a_job_that_waits_for_permits_is_not_taken_from_anybody() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let arguments = ["--nats", &nats.url(), "--jobs-ack-wait", "1s"];
    let host = Host::with_manifest(&probe(), &arguments);
    // Clients hold all four permits, for longer than a worker may be silent.
    let clients: Vec<_> = (2..6)
        .map(|last| {
            let address = std::net::IpAddr::from([127, 0, 0, last]);
            let client = common::client_builder().local_address(address);
            let url = format!("{}/pause?5000", host.url);
            tokio::spawn(client.build().unwrap().post(url).send())
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let job = create(&host, "/jobs/pause?3000", "").await;
    for client in clients {
        assert_eq!(client.await.unwrap().unwrap().status(), 200);
    }
    let done = ended(&host, &job).await;
    assert_eq!(
        (&done["status"], &done["attempts"]),
        (&"done".into(), &1.into()),
        "{done}"
    );
}

#[tokio::test]
async fn a_worker_that_was_believed_lost_does_not_take_its_job_back() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let arguments = ["--nats", &nats.url(), "--jobs-ack-wait", "2s"];
    let first = Host::with_manifest(&probe(), &arguments);
    let job = create(&first, "/jobs/pause?8000", "").await;
    eventually(async || (first.get(&job).await.json()["status"] == "running").then_some(())).await;
    let second = Host::with_manifest(&probe(), &arguments);
    first.signal(rustix::process::Signal::STOP);
    eventually(async || (second.get(&job).await.json()["attempts"] == 2).then_some(())).await;
    first.signal(rustix::process::Signal::CONT);
    let done = ended(&second, &job).await;
    assert_eq!(
        (&done["status"], &done["attempts"]),
        (&"done".into(), &2.into()),
        "{done}"
    );
    none_is_left(&jetstream::new(nats.client().await)).await;
}

#[tokio::test]
async fn jobs_go_on_after_everything_in_jetstream_was_deleted() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let host = Host::with_manifest(&probe(), &["--nats", &nats.url()]);
    let job = create(&host, "/jobs/hello", "").await;
    assert_eq!(ended(&host, &job).await["status"], "done");
    let context = jetstream::new(nats.client().await);
    for stream in ["whisper-jobs", "KV_whisper-jobs", "OBJ_whisper-jobs"] {
        context.delete_stream(stream).await.unwrap();
    }
    let created = eventually(async || {
        let created = host.post("/jobs/hello", "body").await;
        (created.status == 202).then_some(created)
    })
    .await;
    let job = created.headers["location"].to_str().unwrap();
    assert_eq!(ended(&host, job).await["status"], "done");
}

#[tokio::test]
async fn nothing_is_left_of_a_body_that_was_not_complete() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let host = Host::with_manifest(&probe(), &["--nats", &nats.url()]);
    let context = jetstream::new(nats.client().await);
    let job = create(&host, "/jobs/hello", vec![0; 1 << 20]).await;
    assert_eq!(ended(&host, &job).await["status"], "done");
    let mut bodies = context.get_stream("OBJ_whisper-jobs").await.unwrap();
    let mut stored = async || bodies.info().await.unwrap().state.bytes;
    let pieces = futures::stream::iter([Ok(vec![0; 1 << 20]), Err(std::io::Error::other("gone"))]);
    // The client is gone when the host has some of the body.
    let body = futures::StreamExt::then(pieces, |piece| async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        piece
    });
    let request = client().post(format!("{}/jobs/hello", host.url));
    let request = request.body(reqwest::Body::wrap_stream(body));
    let mut most = 0;
    let sent = tokio::spawn(request.send());
    while !sent.is_finished() {
        most = most.max(stored().await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(sent.await.unwrap().is_err());
    assert!(most > 512 << 10, "{most}");
    eventually(async || (stored().await < 100 << 10).then_some(())).await;
}

#[tokio::test]
async fn a_long_error_is_kept_and_final() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let host = Host::with_manifest(&probe(), &["--nats", &nats.url()]);
    let job = create(&host, "/jobs/large-refusal", "").await;
    let failed = ended(&host, &job).await;
    assert_eq!(
        (&failed["status"], &failed["attempts"]),
        (&"failed".into(), &1.into())
    );
    assert_eq!(failed["error"].as_str().unwrap().len(), 3 << 20);
}

/// A stream may have a limited number of consumers, a thousand by default.
#[tokio::test]
async fn reading_a_body_leaves_nothing_on_the_server() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let host = Host::with_manifest(&probe(), &["--nats", &nats.url()]);
    for size in [1, 1 << 20] {
        let body = "x".repeat(size);
        let job = create(&host, "/jobs/echo", body.clone()).await;
        let done = ended(&host, &job).await;
        assert_eq!(
            (&done["status"], &done["result"]),
            (&"done".into(), &body.into())
        );
        assert_eq!(delete(&host, &job).await.status, 204);
    }
    let context = jetstream::new(nats.client().await);
    for stream in ["OBJ_whisper-jobs", "KV_whisper-jobs"] {
        let mut stream = context.get_stream(stream).await.unwrap();
        eventually(async || {
            let state = &stream.info().await.unwrap().state;
            (state.messages == 0 && state.consumer_count == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_response_that_grows_in_the_record_is_kept() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let host = Host::with_manifest(&probe(), &["--nats", &nats.url()]);
    let body = "\u{1}".repeat(200_000);
    let job = create(&host, "/jobs/echo", body.clone()).await;
    let done = ended(&host, &job).await;
    assert_eq!(
        (&done["status"], &done["result"]),
        (&"done".into(), &body.into())
    );
}

#[tokio::test]
async fn a_job_goes_on_while_the_server_does_not_answer() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let host = Host::with_manifest(&probe(), &["--nats", &nats.url()]);
    let job = create(&host, "/jobs/pause?9000", "").await;
    eventually(async || (host.get(&job).await.json()["status"] == "running").then_some(())).await;
    nats.signal(rustix::process::Signal::STOP);
    // Longer than one operation of JetStream may take.
    tokio::time::sleep(Duration::from_secs(7)).await;
    nats.signal(rustix::process::Signal::CONT);
    let done = eventually(async || {
        let job = host.get(&job).await;
        (job.status == 200 && job.json()["status"] == "done").then_some(job.json())
    })
    .await;
    assert_eq!(done["attempts"], 1, "{done}");
}

#[tokio::test]
async fn a_job_is_found_under_the_path_of_its_component_only() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let host = Host::with_manifest(&probe(), &["--nats", &nats.url()]);
    let job = create(&host, "/jobs/sleep", "").await;
    let other = job.replace("/jobs/sleep/", "/jobs/hello/");
    assert_eq!(host.get(&other).await.status, 404);
    assert_eq!(delete(&host, &other).await.status, 404);
    assert_eq!(delete(&host, &job).await.status, 204);
}

#[tokio::test]
async fn a_job_stands_for_those_with_the_same_content_if_the_client_asks() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let host = Host::with(state_dir(), &["--nats", &nats.url()]);
    let form = |name: &str, language: &'static str| {
        let part = reqwest::multipart::Part::bytes(recording("garden.flac"));
        reqwest::multipart::Form::new()
            .part("file", part.file_name(name.to_owned()))
            .text("language", language)
    };
    let post = async |query: &str, form| {
        let request = client().post(format!("{}/jobs{query}", host.url));
        let created = answer(request.multipart(form).send().await.unwrap()).await;
        let location = created.headers["location"].to_str().unwrap();
        (created.status, location.to_owned())
    };
    let (status, first) = post("?deduplicate=true", form("a.flac", "en")).await;
    assert_eq!(status, 202);
    let (status, second) = post("?deduplicate=true", form("b.flac", "en")).await;
    assert_eq!((status, &second), (200, &first));
    let (status, other) = post("?deduplicate=true&timestamps=segment", form("a.flac", "en")).await;
    assert_eq!(status, 202);
    assert_ne!(other, first);
    let (status, unasked) = post("", form("a.flac", "en")).await;
    assert_eq!(status, 202);
    assert_ne!(unasked, first);
    let done = ended(&host, &first).await;
    assert_eq!(done["status"], "done", "{done}");
    let (status, third) = post("?deduplicate=true", form("a.flac", "en")).await;
    assert_eq!((status, &third), (200, &first));
    // What was removed or has failed stands for nothing.
    assert_eq!(delete(&host, &first).await.status, 204);
    let (status, again) = post("?deduplicate=true", form("a.flac", "en")).await;
    assert_eq!(status, 202);
    assert_ne!(again, first);
    let (_, failing) = post("?deduplicate=true", form("a.flac", "xx")).await;
    assert_eq!(ended(&host, &failing).await["status"], "failed");
    let (status, again) = post("?deduplicate=true", form("a.flac", "xx")).await;
    assert_eq!(status, 202);
    assert_ne!(again, failing);
    let refused = host.post("/jobs?deduplicate=yes", "").await;
    assert_eq!(refused.error(), (400, "bad_request".into()));
}

/// A server for callbacks on loopback, which answers with these statuses, one after the other, and then with 200. Returns its URL and
/// what it receives.
async fn receiver(statuses: &[u16]) -> (String, mpsc::UnboundedReceiver<(HeaderMap, Bytes)>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut statuses: Vec<u16> = statuses.iter().rev().copied().collect();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let status = StatusCode::from_u16(statuses.pop().unwrap_or(200)).unwrap();
            let sender = sender.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let sender = sender.clone();
                async move {
                    assert_eq!(request.uri().path(), "/done");
                    let headers = request.headers().clone();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let _ = sender.send((headers, body));
                    let mut response = Response::new(Full::new(Bytes::new()));
                    *response.status_mut() = status;
                    let close = "close".parse().unwrap();
                    response.headers_mut().insert("connection", close);
                    Ok::<_, Infallible>(response)
                }
            });
            let stream = TokioIo::new(stream);
            tokio::spawn(http1::Builder::new().serve_connection(stream, service));
        }
    });
    (url, receiver)
}

#[tokio::test]
async fn the_end_of_a_job_is_told_to_the_address_that_the_client_names() {
    const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let Some(nats) = Nats::start().await else {
        return;
    };
    let (url, mut received) = receiver(&[500]).await;
    let manifest = probe().replace(
        "[component.hello]\n",
        &format!("[component.hello]\nallowed_outbound_hosts = [\"{url}\"]\n"),
    );
    let manifest = manifest.replace(
        "[component.trap]\n",
        &format!("[component.trap]\nallowed_outbound_hosts = [\"{url}\"]\n"),
    );
    let state = state_dir();
    let path = common::write_manifest(state.path(), &manifest);
    let arguments = [
        "-f",
        path.to_str().unwrap(),
        "--nats",
        &nats.url(),
        "--jobs-attempts",
        "1",
    ];
    let secret = format!("whsec_{SECRET}");
    let host = Host::with_environment(state, &arguments, &[("WEBHOOK_SECRET", &secret)]);
    let query = format!("callback_url={url}/done");
    let mut check = async |path: &str, event: &str, attempts: usize| {
        let job = create(&host, path, "").await;
        let id = job.rsplit_once('/').unwrap().1;
        for _ in 0..attempts {
            let received = tokio::time::timeout(common::PATIENCE, received.recv());
            let (headers, body) = received.await.unwrap().unwrap();
            let header = |name: &str| headers[name].to_str().unwrap();
            assert_eq!(header("webhook-id"), id);
            // As the specification of Standard Webhooks says, with another library than the host's.
            let key = base64::engine::general_purpose::STANDARD.decode(SECRET);
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key.unwrap());
            let text = std::str::from_utf8(&body).unwrap();
            let signed = format!("{id}.{}.{text}", header("webhook-timestamp"));
            let signature = ring::hmac::sign(&key, signed.as_bytes());
            let signature = base64::engine::general_purpose::STANDARD.encode(signature);
            assert_eq!(header("webhook-signature"), format!("v1,{signature}"));
            let event_sent: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(event_sent["type"], event);
            assert_eq!(event_sent["data"], host.get(&job).await.json());
        }
    };
    // The first attempt fails, and is repeated after five seconds.
    check(&format!("/jobs/hello?{query}"), "job.done", 2).await;
    check(&format!("/jobs/trap?{query}"), "job.failed", 1).await;
    let context = jetstream::new(nats.client().await);
    let mut due = context.get_stream("whisper-jobs-callbacks").await.unwrap();
    eventually(async || (due.info().await.unwrap().state.messages == 0).then_some(())).await;

    // Only to addresses that the component may reach.
    let refused = host.post(&format!("/jobs/pause?{query}"), "").await;
    assert_eq!(refused.error(), (403, "forbidden".into()));
    for address in [
        "http://127.0.0.1:1/done",
        "http://u@127.0.0.1/",
        "nowhere",
        "file:///x",
    ] {
        let refused = host
            .post(&format!("/jobs/hello?callback_url={address}"), "")
            .await;
        assert!(
            matches!(refused.status, 400 | 403),
            "{address}: {}",
            refused.text
        );
    }
    assert!(received.try_recv().is_err());
    let without = Host::with_manifest(&manifest, &["--nats", &nats.url()]);
    let refused = without.post(&format!("/jobs/hello?{query}"), "").await;
    assert!(
        refused.message().contains("--webhook-secret-file"),
        "{}",
        refused.text
    );
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
