//! Hosts on one NATS server count the calls of all of them.

mod common;

#[path = "common/nats.rs"]
mod nats;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use common::{Host, eventually, recording, state_dir, wav};
use nats::Nats;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const STREAM: &str = "whisper-points";

fn host_at(url: &str, state: TempDir) -> Host {
    Host::with(state, &["--nats", url])
}

fn host(nats: &Nats) -> Host {
    host_at(&nats.url(), state_dir())
}

fn hosts<const N: usize>(nats: &Nats) -> [Host; N] {
    std::array::from_fn(|_| host(nats))
}

async fn context(nats: &Nats) -> Context {
    jetstream::new(nats.client().await)
}

/// A call that takes the model no time: nothing is said.
async fn call(host: &Host) {
    let answer = host.post("/analyze", wav(0.5, |_| 0)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

async fn calls(host: &Host, count: usize) {
    for _ in 0..count {
        call(host).await;
    }
}

async fn total(host: &Host) -> u64 {
    let stats = host.get("/stats").await.json();
    stats["total_calls"].as_u64().unwrap()
}

/// Waits until a host counts this many calls; it must never count more.
async fn counts(host: &Host, expected: u64) {
    eventually(async || {
        let total = total(host).await;
        assert!(
            total <= expected,
            "{total} calls, but only {expected} were made"
        );
        (total == expected).then_some(())
    })
    .await;
}

async fn all_count(hosts: &[&Host], expected: u64) {
    for host in hosts {
        counts(host, expected).await;
    }
}

fn says<'a>(message: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |line| {
        let text = line["message"].as_str().unwrap_or_default();
        text.starts_with(message)
    }
}

/// Ends a host with SIGTERM, and returns its state folder.
async fn stop(mut host: Host) -> TempDir {
    host.signal(Signal::TERM);
    assert_eq!(host.exit_code().await, Some(0));
    host.kill()
}

#[tokio::test]
async fn every_host_counts_the_calls_of_all_of_them() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let [a, b, c] = hosts(&nats);
    assert!(
        a.start_up.contains("(SQLite), shared over NATS"),
        "{}",
        a.start_up
    );
    for (host, name) in [(&a, "garden.flac"), (&b, "story.mp3"), (&c, "numbers.wav")] {
        assert_eq!(host.post("/analyze", recording(name)).await.status, 200);
    }
    calls(&b, 4).await;
    all_count(&[&a, &b, &c], 7).await;
    // Not only their number.
    let stats = a.get("/stats").await.text;
    for host in [&b, &c] {
        assert_eq!(host.get("/stats").await.text, stats);
    }
    // A host that joins has all of it, and one that was away what it has missed.
    let d = host(&nats);
    all_count(&[&d], 7).await;
    assert_eq!(d.get("/stats").await.text, stats);
    let state = stop(b).await;
    calls(&d, 2).await;
    let b = host_at(&nats.url(), state);
    all_count(&[&a, &b, &c, &d], 9).await;
}

#[tokio::test]
async fn without_the_server_each_host_counts_its_own_calls_and_later_all() {
    let Some(mut nats) = Nats::start().await else {
        return;
    };
    let [a, b, c] = hosts(&nats);
    calls(&a, 2).await;
    all_count(&[&a, &b, &c], 2).await;
    nats.kill();
    for (host, count) in [(&a, 1), (&b, 2), (&c, 3)] {
        calls(host, count).await;
        assert_eq!(total(host).await, 2 + count as u64);
    }
    a.wait_for_log(says("calls cannot be sent to other hosts"))
        .await;
    a.wait_for_log(says("calls of other hosts cannot be received"))
        .await;
    // What could not be sent waits in the file.
    let state = stop(b).await;
    nats.restart().await;
    all_count(&[&a, &c], 6).await;
    let b = host_at(&nats.url(), state);
    all_count(&[&a, &b, &c], 8).await;
    a.wait_for_log(says("calls are sent to other hosts again"))
        .await;
    a.wait_for_log(says("calls of other hosts are received again"))
        .await;
    let warnings = a.log();
    let warnings = warnings
        .iter()
        .filter(|line| says("calls ")(line) && line["level"] == "WARN");
    // Not one for each attempt. A connection may be lost again while the server starts.
    assert!((2..=4).contains(&warnings.count()));
}

#[tokio::test]
async fn the_last_calls_of_a_host_that_stops_are_sent() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let [a, b] = hosts(&nats);
    calls(&a, 5).await;
    drop(stop(a).await);
    counts(&b, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_host_loses_and_doubles_no_answered_call() {
    const CALLERS: u64 = 4;
    let Some(nats) = Nats::start().await else {
        return;
    };
    let [a, mut b, c] = hosts(&nats);
    calls(&a, 1).await;
    let mut least = 1;
    for round in 1..=3 {
        let answered = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (url, answered) = (format!("{}/analyze", b.url), Arc::clone(&answered));
                tokio::spawn(async move {
                    let client = common::client();
                    while let Ok(response) = client.post(&url).body(wav(0.5, |_| 0)).send().await
                        && response.bytes().await.is_ok()
                    {
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        eventually(async || (answered.load(Ordering::SeqCst) >= 50).then_some(())).await;
        let state = b.kill();
        for caller in callers {
            caller.await.unwrap();
        }
        least += answered.load(Ordering::SeqCst);
        b = host_at(&nats.url(), state);
        // What was recorded but not answered when the host was killed counts, too: one per caller at most.
        let recorded = eventually(async || {
            let totals = [total(&a).await, total(&b).await, total(&c).await];
            (totals[0] >= least && totals.iter().all(|total| *total == totals[0]))
                .then_some(totals[0])
        })
        .await;
        assert!(
            recorded <= least + CALLERS,
            "round {round}: {recorded} {least}"
        );
        // Nothing arrives any more.
        tokio::time::sleep(Duration::from_millis(500)).await;
        all_count(&[&a, &b, &c], recorded).await;
        least = recorded;
    }
}

#[tokio::test]
async fn hosts_go_on_after_the_stream_was_deleted() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let context = context(&nats).await;
    let [a, b, c] = hosts(&nats);
    calls(&a, 3).await;
    all_count(&[&a, &b, &c], 3).await;
    context.delete_stream(STREAM).await.unwrap();
    for host in [&a, &b, &c] {
        call(host).await;
    }
    all_count(&[&a, &b, &c], 6).await;
    // The new stream has more messages than the one that a host has read.
    let state = stop(c).await;
    context.delete_stream(STREAM).await.unwrap();
    calls(&a, 10).await;
    all_count(&[&a, &b], 16).await;
    let c = host_at(&nats.url(), state);
    all_count(&[&a, &b, &c], 16).await;
    // An empty one.
    let stream = context.get_stream(STREAM).await.unwrap();
    stream.purge().await.unwrap();
    call(&c).await;
    all_count(&[&a, &b, &c], 17).await;
}

#[tokio::test]
async fn a_server_without_jetstream_is_named_as_the_reason() {
    let Some(nats) = Nats::with("jetstream: disabled\n").await else {
        return;
    };
    let a = host(&nats);
    call(&a).await;
    counts(&a, 1).await;
    for warning in [
        "calls cannot be sent",
        "calls of other hosts cannot be received",
    ] {
        let line = a.wait_for_log(says(warning)).await;
        let error = line["error"].as_str().unwrap();
        assert!(error.contains("start it with `-js`"), "{line}");
    }
    drop(stop(a).await);
}

#[tokio::test]
async fn a_host_does_not_need_permission_to_share() {
    let users = r#"
        authorization {
            users: [
                { user: all, password: secret },
                { user: some, password: secret, permissions: { publish: { deny: ["whisper-points"] } } },
                { user: none, password: secret, permissions: { publish: { deny: ["$JS.API.>"] } } },
            ]
        }
    "#;
    let Some(nats) = Nats::with(users).await else {
        return;
    };
    let [all, some, none] = ["all", "some", "none"].map(|user| {
        let arguments = ["--nats", &nats.url(), "--nats-user", user];
        Host::with_environment(state_dir(), &arguments, &[("NATS_PASSWORD", "secret")])
    });
    for host in [&all, &some, &none] {
        call(host).await;
    }
    some.wait_for_log(says("calls cannot be sent to other hosts"))
        .await;
    none.wait_for_log(says("calls of other hosts cannot be received"))
        .await;
    // The one may only read; the other does not know where a message would go, but the stream takes it.
    counts(&all, 2).await;
    counts(&some, 3).await;
    counts(&none, 1).await;
}

#[tokio::test]
async fn foreign_messages_are_left_out_with_a_warning_and_settings_of_the_stream_are_kept() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let context = context(&nats).await;
    let a = host(&nats);
    call(&a).await;
    let config = async || {
        let stream = context.get_stream(STREAM).await.ok()?;
        Some(stream.cached_info().config.clone())
    };
    let created = eventually(config).await;
    assert_eq!(created.max_age, Duration::ZERO);
    let changed = jetstream::stream::Config {
        max_bytes: 1 << 30,
        ..created
    };
    context.update_stream(changed).await.unwrap();
    for payload in ["hello", "{}", ""] {
        let published = context.publish(STREAM, payload.into()).await.unwrap();
        published.await.unwrap();
    }
    let warning = a.wait_for_log(says("messages that no host has sent")).await;
    let reason = warning["reason"].as_str().unwrap();
    assert!(reason.contains("malformed"), "{warning}");
    let b = Host::with(
        state_dir(),
        &["--nats", &nats.url(), "--stats-retention", "30d"],
    );
    call(&b).await;
    all_count(&[&a, &b], 2).await;
    let config = config().await.unwrap();
    assert_eq!(config.max_age, Duration::from_secs(30 * 24 * 3600));
    assert_eq!(config.max_bytes, 1 << 30);
}

/// A proxy of a server, which on request sends something that ends the client.
async fn proxy(server: String) -> (String, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let poison = Arc::new(Notify::new());
    let poisoned = Arc::clone(&poison);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(&server).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            let poisoned = Arc::clone(&poisoned);
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy(&mut from_server, &mut to_client) => return,
                    () = poisoned.notified() => {}
                }
                let message = b"MSG a 1 18446744073709551615\r\nPING\r\n";
                to_client.write_all(message).await.unwrap();
            });
        }
    });
    (url, poison)
}

// The proxy must run while a host starts, which blocks a thread.
#[tokio::test(flavor = "multi_thread")]
async fn calls_are_shared_after_the_client_has_ended() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let (url, poison) = proxy(nats.url().replace("nats://", "")).await;
    let (a, b) = (host_at(&url, state_dir()), host(&nats));
    for host in [&a, &b] {
        call(host).await;
    }
    all_count(&[&a, &b], 2).await;
    poison.notify_waiters();
    a.wait_for_log(says("the client of NATS has ended")).await;
    for host in [&a, &b] {
        call(host).await;
    }
    all_count(&[&a, &b], 4).await;
}
