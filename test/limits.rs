//! Limits for misbehaving components and clients. Each test fails without its limit.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use common::{Host, PATIENCE, client, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// The probe with several limits. The last path segment selects its behaviour.
const PROBE: &str = r#"
spin_manifest_version = 2
application = { name = "probe" }

[[trigger.http]]
route = "/..."
component = "probe"

[component.probe]
source = "{components}/probe-wasi02.wasm"
[component.probe.tool.whisper-host.limits]
timeout = "3s"
cpu = "500ms"
memory = "32MiB"
request_body = "1MiB"
body_idle = "1s"

[[trigger.http]]
route = "/one/..."
component = "one"

[component.one]
source = "{components}/probe-wasi02.wasm"
[component.one.tool.whisper-host.limits]
timeout = "60s"
concurrency = 1
queue = 1
queue_timeout = "60s"

[[trigger.http]]
route = "/shared/..."
component = "shared"

[component.shared]
source = "{components}/probe-wasi02.wasm"
[component.shared.tool.whisper-host.limits]
timeout = "60s"
concurrency = 4

[[trigger.http]]
route = "/crowded/..."
component = "crowded"

[component.crowded]
source = "{components}/probe-wasi02.wasm"
[component.crowded.tool.whisper-host.limits]
timeout = "60s"
concurrency = 2
queue = 3

[[trigger.http]]
route = "/impatient/..."
component = "impatient"

[component.impatient]
source = "{components}/probe-wasi02.wasm"
[component.impatient.tool.whisper-host.limits]
timeout = "60s"
concurrency = 1
queue_timeout = "200ms"

[[trigger.http]]
route = "/reuse/..."
component = "reuse"

[component.reuse]
source = "{components}/probe-wasi02.wasm"
[component.reuse.tool.whisper-host.limits]
instance_reuse = 3
instance_idle = "60s"

[[trigger.http]]
route = "/three/..."
component = "three"

[component.three]
source = "{components}/probe-wasi03.wasm"
[component.three.tool.whisper-host.limits]
timeout = "10s"
cpu = "500ms"

[[trigger.http]]
route = "/given/..."
component = "given"

[[trigger.http]]
route = "/three-given/..."
component = "three-given"

[component.three-given]
source = "{components}/probe-wasi03.wasm"
allowed_outbound_hosts = ["http://{server}"]

[component.given]
source = "{components}/probe-wasi02.wasm"
environment = { GREETING = "hello", PLACE = "world" }
allowed_outbound_hosts = ["http://{server}"]
"#;

fn probe() -> Host {
    probe_with(&[])
}

fn probe_with(args: &[&str]) -> Host {
    Host::with_manifest(&PROBE.replace("{server}", "127.0.0.1:1"), args)
}

/// Waits until this many requests of a component are running and waiting.
async fn until(host: &Host, id: &str, running: u64, waiting: u64) {
    eventually(async || {
        let metrics = metrics(host, id).await;
        (metrics["running"] == running && metrics["waiting"] == waiting).then_some(())
    })
    .await;
}

/// The metrics of a component.
async fn metrics(host: &Host, id: &str) -> Value {
    let url = format!("{}/v1/components/{id}", host.admin);
    common::answer(reqwest::get(&url).await.unwrap())
        .await
        .json()["metrics"]
        .take()
}

/// The log lines of a component: its output, and the host's messages.
async fn lines(host: &Host, id: &str) -> Vec<Value> {
    let url = format!("{}/v1/components/{id}/logs", host.admin);
    let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Final check of most tests: the host still serves requests.
async fn still_serves(host: &Host) {
    assert_eq!(host.get("/hello").await.text, "hello");
}

#[tokio::test]
async fn handlers_of_wasi_0_2_and_0_3_are_both_served() {
    let host = probe();
    assert!(
        host.start_up.contains("wasi:http/incoming-handler@0.2"),
        "{}",
        host.start_up
    );
    assert!(
        host.start_up.contains("wasi:http/handler@0.3"),
        "{}",
        host.start_up
    );
    assert_eq!(host.get("/hello").await.text, "hello");
    assert_eq!(host.get("/three/hello").await.text, "hello from 0.3");
    let body = "x".repeat(3_000_000);
    assert_eq!(host.post("/three/echo", body.clone()).await.text, body);
    assert_eq!(host.post("/given/echo", body.clone()).await.text, body);
}

#[tokio::test]
async fn each_request_gets_a_fresh_instance() {
    let host = probe();
    for path in ["/count", "/three/count"] {
        for _ in 0..3 {
            assert_eq!(host.get(path).await.text, "1", "{path}");
        }
    }
}

#[tokio::test]
async fn an_instance_is_reused_up_to_its_limit() {
    let host = probe();
    let mut counts = Vec::new();
    for _ in 0..6 {
        counts.push(host.get("/reuse/count").await.text);
    }
    assert_eq!(counts, ["1", "2", "3", "1", "2", "3"]);
}

#[tokio::test]
async fn an_idle_instance_does_not_keep_the_slot_of_its_last_request() {
    let one_at_a_time = "instance_reuse = 3\nconcurrency = 1\nqueue_timeout = \"5s\"";
    let host = Host::with_manifest(&PROBE.replace("instance_reuse = 3", one_at_a_time), &[]);
    for expected in ["1", "2", "3", "1"] {
        assert_eq!(host.get("/reuse/count").await.text, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_wait_for_a_free_instance_and_none_is_refused() {
    let host = probe_with(&["--max-instances", "1"]);
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let url = format!("{}/hello", host.url);
            tokio::spawn(async move {
                let client = client();
                for _ in 0..50 {
                    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

#[tokio::test]
async fn a_component_that_cannot_start_within_its_limits_is_refused_at_once() {
    let state = common::state_dir();
    let manifest = PROBE.replace("memory = \"32MiB\"", "memory = \"512KiB\"");
    let said = common::refused(state.path(), &manifest);
    assert!(
        said.contains("component probe cannot be instantiated: it exceeded its memory limit"),
        "{said}"
    );
}

/// The probe with `count` additional core modules, each instantiated, each with a table.
fn probe_with_modules(state: &std::path::Path, count: u8) -> std::path::PathBuf {
    let module = b"\0asm\x01\0\0\0\x04\x04\x01\x70\0\x01"; // (module (table 1 funcref))
    probe_with_parts(state, (1, module), 2, count)
}

/// The probe with nested components that have nothing, each instantiated.
fn probe_with_components(state: &std::path::Path, count: u8) -> std::path::PathBuf {
    let component = b"\0asm\x0d\0\x01\0"; // (component)
    probe_with_parts(state, (4, component), 5, count)
}

/// The probe with one more section, and an instance of it, `count` times: the sections' ids.
fn probe_with_parts(
    state: &std::path::Path,
    (part, content): (u8, &[u8]),
    instances: u8,
    count: u8,
) -> std::path::PathBuf {
    let mut wasm =
        std::fs::read(common::root().join("target/components/probe-wasi02.wasm")).unwrap();
    // Index of the first added part: the number of existing ones. A section is its id, its length as LEB128, and its content.
    let (mut at, mut parts) = (8, 0);
    while at < wasm.len() {
        parts += u8::from(wasm[at] == part);
        let (mut length, mut shift) = (0, 0);
        loop {
            at += 1;
            length |= usize::from(wasm[at] & 0x7f) << shift;
            shift += 7;
            if wasm[at] < 0x80 {
                break;
            }
        }
        at += 1 + length;
    }
    wasm.extend([part, content.len() as u8]);
    wasm.extend(content);
    // (instance (instantiate $part)), `count` times.
    let instantiated: Vec<u8> = std::iter::once(count)
        .chain((0..count).flat_map(|_| [0, parts, 0]))
        .collect();
    wasm.extend([
        instances,
        (instantiated.len() % 128 + 128) as u8,
        (instantiated.len() / 128) as u8,
    ]);
    wasm.extend(instantiated);
    let path = state.join(format!("parts-{part}-{count}.wasm"));
    std::fs::write(&path, wasm).unwrap();
    path
}

#[tokio::test]
async fn a_component_of_many_modules_leaves_room_for_the_others() {
    let files = tempfile::tempdir().unwrap();
    let manifest = |count| {
        let greedy = probe_with_modules(files.path(), count);
        format!(
            "{PROBE}
[[trigger.http]]
route = \"/greedy/...\"
component = \"greedy\"

[component.greedy]
source = {greedy:?}
[component.greedy.tool.whisper-host.limits]
timeout = \"60s\"
concurrency = 64
"
        )
    };
    let host = Host::with_manifest(&manifest(48), &["--max-instances", "32"]);
    let mut sleeping = Vec::new();
    // Each client leaves as many slots free as it holds.
    for (last, requests) in [(2, 16), (3, 8), (4, 4), (5, 2), (6, 1)] {
        for _ in 0..requests {
            let address = host.address().to_owned();
            sleeping.push(tokio::spawn(async move {
                get_from([127, 0, 0, last], &address, "/greedy/sleep").await
            }));
        }
        until(&host, "greedy", sleeping.len() as u64, 0).await;
    }
    still_serves(&host).await;
    for request in &sleeping {
        assert!(!request.is_finished(), "each of them has a slot");
        request.abort();
    }

    let state = common::state_dir();
    let said = common::refused(state.path(), &manifest(70));
    assert!(
        said.contains("component greedy") && said.contains("64"),
        "{said}"
    );
}

#[tokio::test]
async fn a_component_sees_only_its_own_environment() {
    let host = probe();
    assert_eq!(host.get("/environment").await.text, "");
    assert_eq!(
        host.get("/given/environment").await.text,
        "GREETING=hello\nPLACE=world"
    );
}

#[test]
fn a_dependency_that_does_not_inherit_must_not_see_the_environment() {
    let state = common::state_dir();
    let manifest = r#"
spin_manifest_version = 2
application = { name = "example" }

[[trigger.http]]
route = "/..."
component = "probe"

[component.probe]
source = "{components}/word-count.wasm"
ai_models = ["whisper"]
environment = { TOKEN = "abc" }

[component.probe.dependencies]
"speech:pipeline/features" = { path = "{components}/audio.wasm" }
"#;
    let said = common::refused(state.path(), manifest);
    assert!(
        said.contains("imports wasi:cli/environment") && said.contains("inherit_configuration"),
        "{said}"
    );
}

#[tokio::test]
async fn what_a_component_prints_is_logged_with_its_id_and_the_request() {
    let host = probe();
    let answer = host.get("/print").await;
    let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
    for (stream, text) in [
        ("stdout", "to standard output"),
        ("stderr", "to standard error"),
    ] {
        let line = host.wait_for_log(|line| line["message"] == text).await;
        assert_eq!(line["component"], "probe");
        assert_eq!(line["stream"], stream);
        assert_eq!(line["request_id"], id.as_str());
    }
}

/// Regression: 4 MiB of line feeds kept both of the host's threads busy for ever.
#[tokio::test]
async fn output_beyond_the_limit_is_dropped_and_reported_once() {
    let host = probe();
    for (path, text) in [
        ("/print-much", "printed"),
        ("/three/print-line-feeds", "hello from 0.3"),
    ] {
        let answer = host.get(path).await;
        assert_eq!(answer.text, text);
        let id = answer.headers["x-request-id"].to_str().unwrap();
        let line = host
            .wait_for_log(|line| line["request_id"] == id && line["dropped_bytes"].is_u64())
            .await;
        assert!(line["dropped_bytes"].as_u64().unwrap() > 3 << 20, "{line}");
        let logged: usize = host
            .log()
            .iter()
            .filter(|line| line["request_id"] == id && line["stream"] == "stdout")
            .map(|line| line["message"].as_str().unwrap().len() + 129)
            .sum();
        assert!(
            (1_000_000..=1 << 20).contains(&logged),
            "{path}: {logged} bytes"
        );
    }
    still_serves(&host).await;
}

#[tokio::test]
async fn work_in_calls_to_the_host_is_bounded_and_counts_as_cpu_time() {
    let host = probe();
    // More than one call returns.
    let answer = host.get("/random-forever").await;
    assert_eq!(answer.error(), (500, "component_trap".into()));
    let answer = host.get("/random-pieces-forever").await;
    assert_eq!(answer.error(), (504, "deadline_exceeded".into()));
    assert!(answer.message().contains("500ms"), "{}", answer.message());
    still_serves(&host).await;
}

#[tokio::test]
async fn a_blocked_standard_output_does_not_stop_the_host() {
    let (_stopped, stalled) = std::io::pipe().unwrap();
    let mut filled = stalled.try_clone().unwrap();
    // More than any pipe buffers: this thread blocks in the write.
    std::thread::spawn(move || std::io::Write::write_all(&mut filled, &[b'x'; 4 << 20]));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let state = common::state_dir();
    let manifest = common::write_manifest(state.path(), &PROBE.replace("{server}", "127.0.0.1:1"));
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut child = common::whisper_host()
        .args(["up", "--admin-listen", "127.0.0.1:0", "--listen"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("--state-dir")
        .arg(state.path())
        .arg("-f")
        .arg(manifest)
        .stdout(stalled)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let url = format!("http://127.0.0.1:{port}/hello");
    let answer = eventually(async || reqwest::get(&url).await.ok()?.text().await.ok()).await;
    assert_eq!(answer, "hello");
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let status = eventually(async || child.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0));
}

/// A closed pipe, a blocked pipe, and a full disk.
#[tokio::test]
async fn a_log_that_cannot_be_written_stops_nothing() {
    let (gone, closed) = std::io::pipe().unwrap();
    drop(gone);
    let (stopped, stalled) = std::io::pipe().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full");
    let full = full.expect("Linux has /dev/full");
    for log in [
        closed.into(),
        stalled.into(),
        std::process::Stdio::from(full),
    ] {
        let state = common::state_dir();
        let path = common::write_manifest(state.path(), &PROBE.replace("{server}", "127.0.0.1:1"));
        let mut host = Host::logging_to(log, state, &["-f", path.to_str().unwrap()], &[]);
        // More lines than the pipe and the queue can hold.
        let client = client();
        for _ in 0..8 {
            let requests = (0..800).map(|_| {
                let request = client.get(format!("{}/print", host.url)).send();
                async { request.await.unwrap().status() }
            });
            use futures::StreamExt as _;
            let answers: Vec<_> = futures::stream::iter(requests)
                .buffer_unordered(16)
                .collect()
                .await;
            assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
        }
        host.signal(rustix::process::Signal::TERM);
        assert_eq!(host.exit_code().await, Some(0));
    }
    drop(stopped);
}

#[tokio::test]
async fn a_trap_is_answered_500_and_explained_in_the_log_only() {
    let host = probe();
    let answer = host.get("/trap").await;
    assert_eq!(answer.error(), (500, "component_trap".into()));
    let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
    assert!(answer.message().contains(&id), "{}", answer.text);
    assert!(!answer.text.contains("wasm"), "{}", answer.text);
    let line = host
        .wait_for_log(|line| line["message"] == "the component trapped")
        .await;
    assert_eq!(line["request_id"], id.as_str());
    assert!(
        line["error"].as_str().unwrap().contains("wasm backtrace"),
        "{line}"
    );
    assert_eq!(
        host.get("/recurse").await.error(),
        (500, "component_trap".into())
    );
    assert_eq!(
        host.get("/leak-resources").await.error(),
        (500, "component_trap".into())
    );
    assert_eq!(
        host.get("/no-answer").await.error(),
        (500, "component_trap".into())
    );
    still_serves(&host).await;
}

#[tokio::test]
async fn a_trap_before_the_first_byte_of_an_answer_is_answered_500() {
    let host = probe();
    let answer = host.get("/trap-before-body").await;
    assert_eq!(answer.error(), (500, "component_trap".into()));
    let id = answer.headers["x-request-id"].to_str().unwrap();
    assert!(answer.message().contains(id), "{}", answer.text);
    still_serves(&host).await;
}

#[tokio::test]
async fn a_status_that_is_not_final_is_answered_500() {
    let host = probe();
    assert_eq!(host.get("/status?404").await.status, 404);
    for status in [100, 101, 103, 199] {
        let answer = host.get(&format!("/status?{status}")).await;
        assert_eq!(answer.error(), (500, "component_trap".into()), "{status}");
        let reason = format!("status {status} is not a final one");
        let line = host
            .wait_for_log(|line| line["error"] == reason.as_str())
            .await;
        assert_eq!(line["level"], "ERROR");
    }
    still_serves(&host).await;
}

#[tokio::test]
async fn a_trap_in_the_middle_of_a_response_aborts_it() {
    let host = probe();
    // The trap may come before or after the start of the response is sent.
    if let Ok(response) = reqwest::get(format!("{}/trap-midway", host.url)).await {
        assert_eq!(response.status(), 200);
        assert!(
            response.text().await.is_err(),
            "an aborted response must not look complete"
        );
    }
    still_serves(&host).await;
}

#[tokio::test]
async fn an_endless_loop_is_stopped_when_its_cpu_time_is_over() {
    let host = probe();
    for path in ["/spin", "/three/spin"] {
        let answer = host.get(path).await;
        assert_eq!(answer.error(), (504, "deadline_exceeded".into()), "{path}");
        assert!(
            answer
                .message()
                .contains("computed for longer than the 500ms"),
            "{}",
            answer.text
        );
    }
    still_serves(&host).await;
}

#[tokio::test]
async fn waiting_for_a_slow_client_costs_no_cpu_time() {
    let patient = PROBE
        .replace("timeout = \"3s\"", "timeout = \"60s\"")
        .replace("body_idle = \"1s\"", "body_idle = \"60s\"");
    let host = Host::with_manifest(&patient, &[]);
    // Twice as many pieces as there are ticks in the CPU budget, each in a separate tick.
    let pieces = futures::stream::unfold(0, |i| async move {
        tokio::time::sleep(Duration::from_millis(25)).await;
        (i < 200).then(|| (Ok::<_, std::io::Error>("x"), i + 1))
    });
    let answer = host.post("/echo", reqwest::Body::wrap_stream(pieces)).await;
    assert_eq!(answer.text, "x".repeat(200));
}

#[tokio::test]
async fn an_endless_loop_does_not_block_other_requests() {
    let host = Host::with_manifest(
        &PROBE
            .replace("cpu = \"500ms\"", "cpu = \"1h\"")
            .replace("timeout = \"3s\"", "timeout = \"30s\""),
        &[],
    );
    let url = format!("{}/spin", host.url);
    // More loops than the scheduler has threads.
    let loops: Vec<_> = (0..8)
        .map(|_| tokio::spawn(reqwest::get(url.clone())))
        .collect();
    host.get("/hello").await;
    for _ in 0..20 {
        still_serves(&host).await;
    }
    assert!(
        loops.iter().all(|l| !l.is_finished()),
        "the loops should still be running"
    );
}

#[tokio::test]
async fn a_queued_upload_is_read_slowly() {
    let host = probe();
    let others = tokio::spawn(reqwest::get(format!("{}/one/sleep", host.url)));
    until(&host, "one", 1, 0).await;
    let url = format!("{}/one/echo", host.url);
    // More than the system buffers, sent by a client that drops a connection without progress for that long.
    let body = "0123456789abcdef".repeat(500_000);
    let client = common::client_builder().tcp_user_timeout(Duration::from_secs(30));
    let client = client.build().unwrap();
    let upload = tokio::spawn(client.post(url).body(body.clone()).send());
    until(&host, "one", 1, 1).await;
    tokio::time::sleep(Duration::from_secs(45)).await;
    others.abort();
    let answer = common::answer(upload.await.unwrap().unwrap()).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text == body);
}

#[tokio::test]
async fn a_component_that_waits_for_ever_is_stopped_at_its_deadline() {
    let host = probe();
    let answer = host.get("/sleep").await;
    assert_eq!(answer.error(), (504, "deadline_exceeded".into()));
    assert!(
        answer.message().contains("longer than the 3s"),
        "{}",
        answer.text
    );
    still_serves(&host).await;
}

#[tokio::test]
async fn an_endless_response_is_aborted_at_its_deadline() {
    let host = Host::with_manifest(&PROBE.replace("cpu = \"500ms\"", "cpu = \"1h\""), &[]);
    let mut response = reqwest::get(format!("{}/stream-forever", host.url))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let read_all = async { while let Ok(Some(_)) = response.chunk().await {} };
    tokio::time::timeout(PATIENCE, read_all)
        .await
        .expect("the response must end");
    still_serves(&host).await;
}

#[tokio::test]
async fn endless_allocation_ends_at_the_memory_limit() {
    let host = probe();
    let answer = host.get("/allocate").await;
    assert_eq!(answer.error(), (500, "memory_limit".into()));
    assert!(answer.message().contains("32.0 MiB"), "{}", answer.text);
    still_serves(&host).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_or_not_its_length_is_declared() {
    let host = probe();
    let large = "x".repeat(1_500_000);
    assert_eq!(
        host.post("/hello", large.clone()).await.error(),
        (413, "body_too_large".into())
    );
    let pieces: Vec<_> = (0..150)
        .map(|_| Ok::<_, std::io::Error>("x".repeat(10_000)))
        .collect();
    // Larger than the socket buffers: the client is still sending when the response arrives.
    let larger = "x".repeat(30_000_000);
    assert_eq!(
        host.post("/hello", larger).await.error(),
        (413, "body_too_large".into())
    );
    // The probe echoes, so its response may have started by then: it must not look complete.
    let url = format!("{}/echo", host.url);
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    if let Ok(response) = client().post(url).body(stream).send().await {
        assert!(response.text().await.is_err());
    }
    still_serves(&host).await;
}

#[tokio::test]
async fn a_component_may_write_its_response_body_before_setting_the_response() {
    let host = probe();
    // wasmtime's own server accepts 2 MiB.
    let answer = host.get("/write-ahead?1500000").await;
    assert_eq!((answer.status, answer.text.len()), (200, 1_500_000));
    for _ in 0..20 {
        let answer = host.get("/reuse/write-ahead?1500000").await;
        assert_eq!(answer.text.len(), 1_500_000);
    }
}

#[tokio::test]
async fn a_component_need_not_read_its_request() {
    let host = probe();
    assert_eq!(
        host.post("/ignore-body", "x".repeat(900_000)).await.text,
        "not read"
    );
    still_serves(&host).await;
}

#[tokio::test]
async fn a_client_that_stops_sending_is_answered_408() {
    let host = probe();
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx")
        .await
        .unwrap();
    let mut answer = String::new();
    // The probe responds before it reads, so the response is aborted; a component that reads first sends its 408.
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .ok();
    let line = host
        .wait_for_log(|line| line["message"] == "the component was stopped")
        .await;
    assert_eq!(line["error"], "the body stopped arriving");

    let host = Host::with_manifest(&common::default_manifest_with("body_idle = \"1s\""), &[]);
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    stream
        .write_all(
            b"POST /analyze HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\nx",
        )
        .await
        .unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request_timeout"), "{answer}");
}

#[tokio::test]
async fn a_body_that_trickles_is_answered_408() {
    let host = probe();
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        .await
        .unwrap();
    for _ in 0..100 {
        if stream.write_all(b"x").await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let line = host
        .wait_for_log(|line| line["message"] == "the component was stopped")
        .await;
    // Its deadline would be after three seconds.
    assert_eq!(line["error"], "the body stopped arriving");
    still_serves(&host).await;
}

#[tokio::test]
async fn an_upload_that_does_not_start_takes_no_slot_and_is_answered_408() {
    let host = probe();
    let mut uploads = Vec::new();
    for path in ["/one/echo", "/echo"] {
        let mut stream = TcpStream::connect(host.address()).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        uploads.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let answer = tokio::time::timeout(Duration::from_secs(20), host.get("/one/hello")).await;
    assert_eq!(answer.expect("the slot must be free").text, "hello");
    let mut answer = String::new();
    uploads[1].read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

/// Connects from another loopback address, as another client.
async fn connect_from(address: [u8; 4], host: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    socket.connect(host.parse().unwrap()).await.unwrap()
}

async fn get_from(address: [u8; 4], host: &str, path: &str) -> String {
    let mut stream = connect_from(address, host).await;
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut answer))
        .await
        .expect("there must be a response")
        .unwrap();
    answer
}

#[tokio::test]
async fn clients_leave_slots_of_a_component_to_others() {
    let host = probe();
    let url = format!("{}/shared/sleep", host.url);
    let requests: Vec<_> = (0..8)
        .map(|_| tokio::spawn(reqwest::get(url.clone())))
        .collect();
    // Half of four.
    until(&host, "shared", 2, 6).await;
    let others: Vec<_> = (0..4)
        .map(|_| {
            let address = host.address().to_owned();
            tokio::spawn(async move { get_from([127, 0, 0, 2], &address, "/shared/sleep").await })
        })
        .collect();
    // Half of the rest.
    until(&host, "shared", 3, 9).await;
    let answer = get_from([127, 0, 0, 3], host.address(), "/shared/hello").await;
    assert!(answer.contains("\r\nhello\r\n"), "{answer}");
    // A client's next request is admitted when one of its own ends.
    requests.iter().for_each(JoinHandle::abort);
    until(&host, "shared", 2, 2).await;
    others.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn one_client_leaves_instances_to_others() {
    let host = probe_with(&["--max-instances", "4"]);
    let requests: Vec<_> = ["shared", "shared", "one", "impatient", "crowded"]
        .into_iter()
        .map(|id| tokio::spawn(reqwest::get(format!("{}/{id}/sleep", host.url))))
        .collect();
    for (id, running) in [("shared", 2), ("one", 1), ("impatient", 1), ("crowded", 1)] {
        until(&host, id, running, 0).await;
    }
    for path in ["/shared/hello", "/hello"] {
        let answer = get_from([127, 0, 0, 2], host.address(), path).await;
        assert!(answer.contains("\r\nhello\r\n"), "{answer}");
    }
    requests.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_queue_filled_by_two_clients_still_accepts_a_third() {
    let host = probe();
    let sleep = |last| {
        let host = host.address().to_owned();
        tokio::spawn(async move { get_from([127, 0, 0, last], &host, "/crowded/sleep").await })
    };
    let first = [sleep(1), sleep(1), sleep(1)];
    until(&host, "crowded", 1, 2).await;
    let second = [sleep(2), sleep(2)];
    until(&host, "crowded", 2, 3).await;
    let address = host.address().to_owned();
    let third =
        tokio::spawn(async move { get_from([127, 0, 0, 3], &address, "/crowded/hello").await });
    // The last request of the client with the most is evicted; the third client's request is next.
    let displaced = loop {
        if let Some(at) = first.iter().position(JoinHandle::is_finished) {
            break at;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let mut first = Vec::from(first);
    let answer = first.remove(displaced).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.contains("this client has the most of them"),
        "{answer}"
    );
    until(&host, "crowded", 2, 3).await;
    second.iter().for_each(JoinHandle::abort);
    let answer = third.await.unwrap();
    assert!(answer.contains("\r\nhello\r\n"), "{answer}");
}

#[tokio::test]
async fn idle_connections_do_not_keep_others_out() {
    let host = probe_with(&[
        "--max-connections",
        "20",
        "--max-connections-per-client",
        "10",
    ]);
    let mut idle = Vec::new();
    // One client opens more than its share; four others open all that are left, and more.
    for last in [1, 1, 1, 2, 3, 4, 5] {
        for _ in 0..10 {
            idle.push(connect_from([127, 0, 0, last], host.address()).await);
        }
    }
    for last in [1, 9] {
        for path in ["/healthz", "/hello"] {
            let answer = get_from([127, 0, 0, last], host.address(), path).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    }
    // The same for the admin interface.
    let admin = host.admin.strip_prefix("http://").unwrap();
    for _ in 0..100 {
        idle.push(TcpStream::connect(admin).await.unwrap());
    }
    let answer = get_from([127, 0, 0, 1], admin, "/v1/components").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn connections_per_client_are_limited_and_those_with_requests_are_not_closed() {
    let host = probe_with(&["--max-connections-per-client", "3"]);
    let request = b"GET /one/sleep HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = connect_from([127, 0, 0, 2], host.address()).await;
        stream.write_all(request).await.unwrap();
        busy.push(stream);
    }
    until(&host, "one", 1, 1).await;
    let mut third = connect_from([127, 0, 0, 2], host.address()).await;
    third
        .write_all(b"GET /shared/sleep HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    until(&host, "shared", 1, 0).await;
    // Only the new one can be closed.
    let mut fourth = connect_from([127, 0, 0, 2], host.address()).await;
    let _ = fourth
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    let mut answer = String::new();
    let _ = fourth.read_to_string(&mut answer).await;
    assert_eq!(answer, "");
    host.wait_for_log(|line| line["client.address"] == "127.0.0.2" && line["limit"] == 3)
        .await;
    until(&host, "one", 1, 1).await;
    still_serves(&host).await;
}

#[tokio::test]
async fn a_client_that_sends_no_headers_is_disconnected() {
    let host = probe_with(&["--header-timeout", "1s"]);
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    stream.write_all(b"GET /hello HT").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .expect("it must be disconnected")
        .ok();
    still_serves(&host).await;
}

#[tokio::test]
async fn headers_are_limited_in_number_and_size() {
    let host = probe();
    let url = format!("{}/hello", host.url);
    let many = (0..1000).fold(client().get(&url), |request, i| {
        request.header(format!("x-{i}"), "y")
    });
    assert_eq!(many.send().await.unwrap().status(), 431);
    for (size, status) in [(65_000, 200), (66_000, 431), (200_000, 431)] {
        let large = client().get(&url).header("x-large", "y".repeat(size));
        assert_eq!(large.send().await.unwrap().status(), status, "{size}");
    }
    let long = client().get(format!("{url}?{}", "y".repeat(50_000)));
    let long = long.header("x-large", "y".repeat(20_000));
    assert_eq!(long.send().await.unwrap().status(), 431);
    still_serves(&host).await;
}

#[tokio::test]
async fn requests_beyond_the_queue_are_answered_503_and_those_within_wait() {
    let host = probe();
    let url = format!("{}/one/sleep", host.url);
    let running = tokio::spawn(reqwest::get(url.clone()));
    let waiting = tokio::spawn(reqwest::get(url));
    until(&host, "one", 1, 1).await;
    let refused = host.get("/one/hello").await;
    assert_eq!(refused.error(), (503, "overloaded".into()));
    assert_eq!(refused.headers["retry-after"], "1");
    // Others are not affected.
    still_serves(&host).await;
    // When the clients disconnect, their slots are freed.
    running.abort();
    waiting.abort();
    eventually(async || (host.get("/one/hello").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn waiting_in_the_queue_is_bounded() {
    let host = probe();
    let running = tokio::spawn(reqwest::get(format!("{}/impatient/sleep", host.url)));
    until(&host, "impatient", 1, 0).await;
    let refused = host.get("/impatient/hello").await;
    assert!(
        refused.message().contains("waited for component"),
        "{}",
        refused.text
    );
    running.abort();
}

#[tokio::test]
async fn a_client_over_its_share_is_answered_429() {
    let host = probe_with(&["--max-requests-per-client", "2"]);
    let url = format!("{}/one/sleep", host.url);
    let _running: Vec<_> = (0..2)
        .map(|_| tokio::spawn(reqwest::get(url.clone())))
        .collect();
    until(&host, "one", 1, 1).await;
    let refused = host.get("/hello").await;
    assert_eq!(refused.error(), (429, "too_many_requests".into()));
    assert_eq!(refused.headers["retry-after"], "1");
    // Health checks are not rejected.
    assert_eq!(host.get("/healthz").await.status, 200);
    assert_eq!(host.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn requests_without_an_unambiguous_host_are_answered_400() {
    let host = probe();
    for head in [
        "GET /hello HTTP/1.1\r\n",
        "GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n",
    ] {
        let mut stream = TcpStream::connect(host.address()).await.unwrap();
        let request = format!("{head}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("bad_request"),
            "{answer}"
        );
    }
    still_serves(&host).await;
}

#[tokio::test]
async fn an_unsupported_transfer_coding_is_refused() {
    let host = probe();
    for coding in [
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let mut stream = TcpStream::connect(host.address()).await.unwrap();
        let request = format!(
            "POST /echo HTTP/1.1\r\nHost: a\r\n{coding}Connection: close\r\n\r\n1\r\na\r\n0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("Content-Encoding"), "{answer}");
    }
    still_serves(&host).await;
}

#[tokio::test]
async fn a_request_of_http_1_0_needs_no_host() {
    let host = probe();
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    stream
        .write_all(b"GET /hello HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn a_request_is_stopped_when_its_client_disconnects() {
    let host = probe();
    // The only slot of `one` is taken by a request whose client disconnects; the slot is free a minute before its deadline.
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    stream
        .write_all(b"GET /one/sleep HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    until(&host, "one", 1, 0).await;
    drop(stream);
    let answer = tokio::time::timeout(Duration::from_secs(30), host.get("/one/hello")).await;
    assert_eq!(answer.expect("the slot must be free").text, "hello");
    let line = host
        .wait_for_log(|line| line["message"] == "the client left before its request was answered")
        .await;
    assert_eq!(line["url.path"], "/one/sleep");
    assert!(line["request_id"].is_string());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_request_is_stopped_when_its_client_disconnects_with_unread_bytes() {
    let host = probe();
    // The first byte of another request, which is not read while this one is in flight.
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    stream
        .write_all(b"GET /one/sleep HTTP/1.1\r\nHost: x\r\n\r\nG")
        .await
        .unwrap();
    until(&host, "one", 1, 0).await;
    drop(stream);
    let answer = tokio::time::timeout(Duration::from_secs(30), host.get("/one/hello")).await;
    assert_eq!(answer.expect("the slot must be free").text, "hello");
}

#[tokio::test]
async fn outbound_requests_reach_allowed_hosts_only() {
    // Two test servers: the probe itself, twice.
    let allowed = probe();
    let other = probe();
    let host = Host::with_manifest(&PROBE.replace("{server}", allowed.address()), &[]);
    let fetch = async |component: &str, server: &Host| {
        host.get(&format!("{component}/fetch?{}/hello", server.address()))
            .await
            .text
    };
    assert_eq!(fetch("/given", &allowed).await, "200");
    assert!(fetch("/given", &other).await.contains("HttpRequestDenied"));
    assert!(fetch("", &allowed).await.contains("HttpRequestDenied"));
    let denied = host
        .wait_for_log(|line| {
            line["message"]
                .as_str()
                .is_some_and(|m| m.starts_with("denied an outbound"))
        })
        .await;
    assert_eq!(denied["level"], "WARN");
}

#[tokio::test]
async fn an_outbound_request_has_a_span_of_the_request_it_is_made_for() {
    let other = probe();
    let manifest = PROBE.replace("{server}", other.address());
    let spans = ["--log-format", "text", "--log", "otel::tracing=trace"];
    let host = Host::with_manifest(&manifest, &spans);
    let path = format!("/given/fetch?{}/hello", other.address());
    assert_eq!(host.get(&path).await.text, "200");
    let url = format!("url.full=\"http://{}/hello\"", other.address());
    host.wait_for_text(&[
        "http.server.request{",
        ":invocation{faas.invoked_name=\"given\"",
        "}:http.client.request{otel.kind=\"client\" http.request.method=GET server.address=\"127.0.0.1\"",
        &url,
        "http.response.status_code=200",
        "}: close",
    ])
    .await;
}

/// Serves every connection on loopback with `answer`, or with nothing if it is empty. Returns the address, and the number of
/// connections.
async fn server(answer: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
                // Open until the other side closes.
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    (address, connections)
}

/// The probe with permission to send requests to these servers.
fn probe_that_may_reach(servers: &str) -> Host {
    Host::with_manifest(&PROBE.replace("\"http://{server}\"", servers), &[])
}

/// Serves every connection on loopback over TLS, with the self-signed certificate for `localhost` in `test/tls`.
async fn tls_server(answer: &'static str) -> String {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let folder = common::root().join("test/tls");
    let certificate = CertificateDer::from_pem_file(folder.join("certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate disconnects.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut request = vec![0; 4096];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    address
}

#[tokio::test]
async fn outbound_errors_are_those_of_wasi_http_and_the_log_says_more() {
    let tls = tls_server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let (plain, _) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let (silent, _) = server("").await;
    let host = probe_that_may_reach(&format!(
        "\"https://{tls}\", \"https://{plain}\", \"http://{silent}\", \"http://127.0.0.1:1\", \"http://name.invalid\""
    ));
    for (url, code, said) in [
        ("127.0.0.1:1".to_owned(), "ConnectionRefused", "refused"),
        ("name.invalid".to_owned(), "DnsError", "cannot be resolved"),
        (
            format!("https://{tls}"),
            "TlsCertificateError",
            "certificate",
        ),
        (
            format!("https://{plain}"),
            "TlsProtocolError",
            "corrupt message",
        ),
    ] {
        let answer = host.get(&format!("/given/fetch?{url}/")).await;
        assert!(answer.text.contains(code), "{url}: {}", answer.text);
        let line = host
            .wait_for_log(|line| line["uri"].as_str().is_some_and(|uri| uri.contains(&url)))
            .await;
        let error = line["error"].as_str().unwrap();
        assert!(error.contains(said), "{url}: {error}");
    }
    // The outbound timeout expires before the handler's own deadline.
    let impatient = PROBE
        .replace("\"http://{server}\"", &format!("\"http://{silent}\""))
        .replace(
            "allowed_outbound_hosts",
            "tool.whisper-host.limits.timeout = \"2s\"\nallowed_outbound_hosts",
        );
    let host = Host::with_manifest(&impatient, &[]);
    let answer = host.get(&format!("/given/fetch?{silent}/")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(
        answer.text.contains("ConnectionReadTimeout"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn certificate_authorities_can_be_added() {
    let tls = tls_server("HTTP/1.1 204 No Content\r\n\r\n").await;
    let manifest = PROBE.replace("\"http://{server}\"", &format!("\"https://{tls}\""));
    let certificate = common::root().join("test/tls/certificate.pem");
    let host = Host::with_manifest(&manifest, &["--outbound-ca", certificate.to_str().unwrap()]);
    let answer = host.get(&format!("/given/fetch?https://{tls}/")).await;
    assert_eq!(answer.text, "204");
}

#[tokio::test]
async fn redirects_are_returned_and_not_followed() {
    let (target, reached) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let location =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{target}/\r\nContent-Length: 0\r\n\r\n");
    let (redirects, _) = server(location.leak()).await;
    let host = probe_that_may_reach(&format!("\"http://{redirects}\""));
    let fetch = async |url: &str| host.get(&format!("/given/fetch?{url}")).await.text;
    assert_eq!(fetch(&redirects).await, "302");
    assert!(fetch(&target).await.contains("HttpRequestDenied"));
    assert_eq!(reached.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_absolute_target_does_not_turn_an_allowed_server_into_a_proxy() {
    let (proxy, reached) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let host = probe_that_may_reach(&format!("\"http://{proxy}\""));
    let fetch = async |target: &str| {
        let path = format!("/given/fetch?{proxy}!{target}");
        host.get(&path).await.text
    };
    for target in ["http://other.example/", "other.example/", "*"] {
        assert_ne!(fetch(target).await, "200", "{target}");
    }
    assert_eq!(reached.load(Ordering::Relaxed), 0);
    // A server that is not a proxy treats these as paths.
    assert_eq!(fetch("//other.example/").await, "200");
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_needs_that_address_granted() {
    let (server, reached) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let port = server.rsplit_once(':').unwrap().1;
    // Not parsed as an address, so it is looked up and resolves to 127.0.0.1.
    let fetch = async |host: &Host, name: &str| {
        let path = format!("/given/fetch?{name}:{port}/");
        host.get(&path).await.text
    };
    let host = probe_that_may_reach(&format!("\"http://127.1:{port}\", \"http://*:{port}\""));
    assert!(
        fetch(&host, "127.1")
            .await
            .contains("DestinationIpProhibited")
    );
    assert!(
        fetch(&host, "127.0.0.1")
            .await
            .contains("HttpRequestDenied")
    );
    assert_eq!(reached.load(Ordering::Relaxed), 0);
    let denied = host
        .wait_for_log(|line| {
            line["error"]
                .as_str()
                .is_some_and(|error| error.contains("127.1 resolves to 127.0.0.1"))
        })
        .await;
    assert_eq!(denied["level"], "WARN");

    let granted = format!("\"http://127.1:{port}\", \"http://127.0.0.0/8:{port}\"");
    let host = probe_that_may_reach(&granted);
    assert_eq!(fetch(&host, "127.1").await, "200");
    assert_eq!(fetch(&host, "127.0.0.1").await, "200");
    let host = probe_that_may_reach(&format!("\"http://localhost:{port}\""));
    assert_eq!(fetch(&host, "localhost").await, "200");
}

#[tokio::test]
async fn a_flood_of_outbound_requests_opens_few_connections() {
    let (server, connections) = server("").await;
    let host = probe_that_may_reach(&format!("\"http://{server}\""));
    let answer = host.get(&format!("/given/fetch-flood?{server}/")).await;
    assert_eq!(answer.error(), (500, "component_trap".into()));
    assert!(connections.load(Ordering::Relaxed) <= 16);
    still_serves(&host).await;
}

#[test]
fn a_component_of_many_component_instances_is_refused() {
    let files = tempfile::tempdir().unwrap();
    let check = |count| {
        let component = probe_with_components(files.path(), count);
        let manifest = format!(
            "spin_manifest_version = 2
application = {{ name = \"parts\" }}
[[trigger.http]]
route = \"/...\"
component = \"parts\"
[component.parts]
source = {component:?}
"
        );
        let path = files.path().join("spin.toml");
        std::fs::write(&path, manifest).unwrap();
        let state = common::state_dir();
        let mut command = common::whisper_host();
        command.args(["check", "-f"]).arg(path);
        let output = command.arg("--state-dir").arg(state.path()).output();
        let output = output.unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (is_fine, said) = check(20);
    assert!(is_fine, "{said}");
    let (is_fine, said) = check(31);
    let expected = "component parts consists of more than 30 component instances with its dependencies; divide it";
    assert!(!is_fine && said.contains(expected), "{said}");
}

#[tokio::test]
async fn what_a_component_returns_as_an_error_is_reported_up_to_a_length() {
    let host = probe();
    let answer = host.get("/error-long").await;
    assert_eq!(answer.error(), (500, "component_error".into()));
    assert!(answer.text.len() < 50_000, "{}", answer.text.len());
    let line = host
        .wait_for_log(|line| line["message"] == "the component returned an error")
        .await;
    let error = line["error"].as_str().unwrap();
    assert!(error.starts_with("ErrorCode::InternalError"), "{error}");
    assert_eq!(error.len(), 8 << 10);
    let lines = lines(&host, "probe").await;
    let longest = lines
        .iter()
        .map(|line| line["text"].as_str().unwrap().len());
    assert!(longest.max().unwrap() < 50_000);
}

#[tokio::test]
async fn warnings_of_libraries_about_calls_of_components_are_not_logged() {
    let host = probe();
    assert_eq!(host.get("/fetch-without-path").await.text, "refused");
    // The request's own line comes after those that it causes.
    host.wait_for_log(|line| line["url.path"] == "/fetch-without-path")
        .await;
    for line in host.log() {
        let target = line["target"].as_str().unwrap_or_default();
        assert!(!target.starts_with("wasmtime"), "{line}");
    }
}

#[tokio::test]
async fn loops_that_start_tasks_in_the_host_neither_stop_others_nor_fill_its_memory() {
    let (server, _) = server("").await;
    let host = probe_that_may_reach(&format!("\"http://{server}\""));
    let threads = std::thread::available_parallelism().unwrap().get();
    for (component, path) in [
        ("given", "fetch-drop-forever?10.9.9.9:1/".to_owned()),
        ("given", format!("fetch-drop-forever?{server}/")),
        ("given", "stdout-drop-forever".to_owned()),
        ("three-given", "fetch-drop-forever?10.9.9.9:1".to_owned()),
        ("three-given", format!("fetch-drop-forever?{server}")),
        ("three-given", "fetch-leak-forever?10.9.9.9:1".to_owned()),
        ("three-given", format!("fetch-leak-forever?{server}")),
    ] {
        let url = format!("{}/{component}/{path}", host.url);
        // Each of the host's threads has a loop.
        let loops: Vec<_> = (0..2 * threads)
            .map(|_| tokio::spawn(client().get(&url).send()))
            .collect();
        until(&host, component, loops.len() as u64, 0).await;
        for _ in 0..10 {
            assert_eq!(host.get("/one/hello").await.text, "hello", "beside {url}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(
            !loops.iter().any(tokio::task::JoinHandle::is_finished),
            "others were served only after {url}"
        );
        for request in loops {
            request.abort();
        }
        until(&host, component, 0, 0).await;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert!(peak < 1 << 20, "{peak} KiB");
}

#[tokio::test]
async fn refused_outbound_requests_are_logged_within_the_limit_of_output() {
    let host = probe();
    // Each of two requests is stopped at its limit of processor time, 500 ms.
    let path = format!("/fetch-drop-forever?10.9.9.9:1/{}", "x".repeat(2000));
    for _ in 0..2 {
        let answer = host.get(&path).await;
        assert_eq!(answer.error(), (504, "deadline_exceeded".into()));
    }
    let dropped = host
        .wait_for_log(|line| line["dropped_bytes"].is_u64())
        .await;
    assert_eq!(dropped["component"], "probe");
    assert!(dropped["request_id"].is_string());
    let denied: Vec<_> = host
        .log()
        .into_iter()
        .filter(|line| {
            let uri = line["uri"].as_str().unwrap_or_default();
            uri.starts_with("http://10.9.9.9:1/xxx")
        })
        .collect();
    let bytes: usize = denied.iter().map(|line| line.to_string().len()).sum();
    assert!((1 << 20..3 << 20).contains(&bytes), "{bytes}");
    let longest = denied
        .iter()
        .map(|line| line["uri"].as_str().unwrap().len());
    assert_eq!(longest.max(), Some(1000));
    let listed = lines(&host, "probe").await;
    assert!(listed.iter().any(|line| line["stream"] == "host"));
}

#[tokio::test]
async fn few_idle_connections_are_kept_to_many_servers() {
    let open = Arc::new(AtomicUsize::new(0));
    let mut servers = Vec::new();
    for _ in 0..40 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        servers.push(listener.local_addr().unwrap().to_string());
        let open = Arc::clone(&open);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                open.fetch_add(1, Ordering::Relaxed);
                let mut request = vec![0; 4096];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    stream.write_all(answer).await.unwrap();
                }
                open.fetch_sub(1, Ordering::Relaxed);
            }
        });
    }
    let host = probe_that_may_reach("\"http://127.0.0.1:*\"");
    for (at, server) in servers.iter().enumerate() {
        // Idle connections are used again.
        for _ in 0..2 {
            let answer = host.get(&format!("/given/fetch?{server}/")).await;
            assert_eq!(answer.text, "200");
        }
        if at == 31 {
            assert_eq!(open.load(Ordering::Relaxed), 32);
        }
    }
    eventually(async || (open.load(Ordering::Relaxed) == 8).then_some(())).await;
}

/// For each path, the expected log line of its request: level, message, and start of the reason.
const REASONS: [(&str, &str, &str, &str); 12] = [
    (
        "/trap",
        "ERROR",
        "the component trapped",
        "error while executing",
    ),
    (
        "/three/trap",
        "ERROR",
        "the component trapped",
        "error while executing",
    ),
    (
        "/trap-midway",
        "ERROR",
        "the component trapped",
        "error while executing",
    ),
    (
        "/trap-before-body",
        "ERROR",
        "the component trapped",
        "error while executing",
    ),
    (
        "/no-answer",
        "ERROR",
        "the component returned no response",
        "guest never invoked",
    ),
    (
        "/status?103",
        "ERROR",
        "the component returned no response",
        "status 103 is not a final one",
    ),
    (
        "/error",
        "WARN",
        "the component returned an error",
        "ErrorCode::ConfigurationError",
    ),
    (
        "/three/error",
        "WARN",
        "the component returned an error",
        "ErrorCode::ConfigurationError",
    ),
    (
        "/sleep",
        "WARN",
        "the component was stopped",
        "it exceeded its time limit",
    ),
    ("/spin-midway", "WARN", "the component was stopped", "its"),
    (
        "/spin-afterwards",
        "WARN",
        "the component was stopped",
        "its",
    ),
    (
        "/allocate",
        "WARN",
        "the component was stopped",
        "it exceeded its memory limit",
    ),
];

#[tokio::test]
async fn one_line_of_the_log_and_of_the_component_says_why_a_request_failed() {
    let host = probe();
    let asked = REASONS.map(|(path, ..)| tokio::spawn(reqwest::get(format!("{}{path}", host.url))));
    for (asked, (path, level, message, reason)) in asked.into_iter().zip(REASONS) {
        // If the response is aborted early, its head may be lost too.
        let _ = asked.await.unwrap();
        let (only_path, _) = path.split_once('?').unwrap_or((path, ""));
        let request = host
            .wait_for_log(|line| line["message"] == "request" && line["url.path"] == only_path)
            .await;
        let id = request["request_id"].as_str().unwrap();
        let of_request = |line: &Value| {
            line["request_id"] == id && line["message"] != "request" && line["stream"].is_null()
        };
        let line = host.wait_for_log(of_request).await;
        assert_eq!(
            (line["level"].as_str(), line["message"].as_str()),
            (Some(level), Some(message)),
            "{path}: {line}"
        );
        let error = line["error"].as_str().unwrap();
        assert!(error.contains(reason), "{path}: {error}");
        let component = line["component"].as_str().unwrap();
        let lines = lines(&host, component).await;
        let said: Vec<_> = lines
            .iter()
            .filter(|line| line["stream"] == "host" && line["request_id"] == id)
            .collect();
        let first = said
            .first()
            .unwrap_or_else(|| panic!("{path}: nothing in {lines:?}"));
        let text = first["text"].as_str().unwrap();
        assert!(text.starts_with(message), "{path}: {text}");
        assert!(first["time"].as_f64().unwrap() > 1.7e9, "{path}: {first}");
        let logged = host.log().into_iter().filter(of_request).count();
        assert_eq!(logged, 1, "{path}");
    }
}

#[tokio::test]
async fn no_backtrace_reaches_a_client() {
    let state = common::state_dir();
    let manifest = PROBE.replace("{server}", "127.0.0.1:1");
    let manifest = common::write_manifest(state.path(), &manifest);
    let backtraces = [("RUST_BACKTRACE", "full"), ("RUST_LIB_BACKTRACE", "1")];
    let host = Host::with_environment(state, &["-f", manifest.to_str().unwrap()], &backtraces);
    let manifest = common::fragment("mine", "/mine", serde_json::json!({}));
    let refused = common::deploy(&host.admin, "mine", &manifest, b"no component").await;
    let refused = refused.unwrap();
    assert_eq!(refused.status, 422, "{}", refused.text);
    for answer in [refused, host.get("/trap").await, host.get("/error").await] {
        assert!(!answer.text.contains("backtrace"), "{}", answer.text);
        assert!(!answer.text.contains(".rs"), "{}", answer.text);
    }
}

#[tokio::test]
async fn an_error_code_of_a_component_is_not_a_trap() {
    let host = probe();
    for path in ["/error", "/three/error"] {
        let answer = host.get(path).await;
        assert_eq!(answer.error(), (500, "component_error".into()));
        assert!(
            answer.message().contains("ConfigurationError"),
            "{}",
            answer.text
        );
    }
    for component in ["probe", "three"] {
        let metrics = metrics(&host, component).await;
        assert_eq!(metrics["traps"], 0, "{metrics}");
        assert_eq!(metrics["requests"], 1, "{metrics}");
    }
}

#[tokio::test]
async fn a_million_headers_hit_the_size_limit() {
    let host = probe();
    let answer = host.get("/many-headers").await;
    assert_eq!(answer.error(), (500, "component_trap".into()));
    let line = host
        .wait_for_log(|line| line["message"] == "the component trapped")
        .await;
    assert!(line["error"].as_str().unwrap().contains("fields"), "{line}");
    still_serves(&host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_innocent_request_is_lost_beside_a_hostile_handler() {
    let (server, _) = server("").await;
    let host = probe_that_may_reach(&format!("\"http://{server}\""));
    // Expected response of each, and the size of an unread body. `None`: the response is aborted.
    let hostile = [
        ("three/spin", Some((504, "deadline_exceeded")), 0),
        ("spin", Some((504, "deadline_exceeded")), 0),
        ("sleep", Some((504, "deadline_exceeded")), 0),
        ("allocate", Some((500, "memory_limit")), 0),
        ("recurse", Some((500, "component_trap")), 0),
        ("leak-resources", Some((500, "component_trap")), 0),
        ("many-headers", Some((500, "component_trap")), 0),
        ("no-answer", Some((500, "component_trap")), 0),
        ("trap-midway", None, 0),
        ("stream-forever", None, 0),
        ("ignore-body", Some((200, "")), 900_000),
    ];
    for (kind, expected, body) in hostile {
        let url = format!("{}/{kind}", host.url);
        let request = client().post(url).body("x".repeat(body)).send();
        let hostile = tokio::spawn(async move {
            match request.await {
                // Read to the end, which may never come by itself.
                Ok(response) => {
                    let status = response.status().as_u16();
                    (status, response.text().await.unwrap_or_default())
                }
                Err(_) => (0, String::new()),
            }
        });
        let innocent: Vec<_> = (0..100)
            .map(|_| tokio::spawn(client().get(format!("{}/given/hello", host.url)).send()))
            .collect();
        for request in innocent {
            let answer = request.await.unwrap().unwrap();
            assert_eq!(answer.status(), 200, "beside {kind}");
            assert_eq!(answer.text().await.unwrap(), "hello", "beside {kind}");
        }
        let (status, text) = hostile.await.unwrap();
        if let Some((expected, code)) = expected {
            assert_eq!(status, expected, "{kind}: {text}");
            assert!(text.contains(code), "{kind}: {text}");
        }
    }
}

#[tokio::test]
async fn sigterm_lets_requests_finish_and_accepts_no_new_ones() {
    let mut host = Host::with_manifest(&PROBE.replace("{server}", "127.0.0.1:1"), &[]);
    let address = host.address().to_owned();
    // A request in flight: its body arrives in two parts, the second after the signal.
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream
        .write_all(b"POST /given/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfirst")
        .await
        .unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    host.signal(rustix::process::Signal::TERM);
    eventually(async || TcpStream::connect(&address).await.is_err().then_some(())).await;
    stream.write_all(b"after").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.contains("first") && answer.contains("after"),
        "{answer}"
    );
    assert_eq!(host.exit_code().await, Some(0));
}

#[tokio::test]
async fn sigterm_lets_a_component_finish_its_work_after_the_response() {
    let mut host = probe_with(&[]);
    assert_eq!(host.get("/one/work-afterwards").await.text, "answered");
    host.signal(rustix::process::Signal::TERM);
    assert_eq!(host.exit_code().await, Some(0));
    let log = host.log();
    assert!(
        log.iter().any(|line| line["message"] == "done afterwards"),
        "{log:?}"
    );
    assert!(log.iter().all(|line| line["level"] == "INFO"), "{log:?}");
}

#[tokio::test]
async fn an_idle_instance_ends_silently_at_sigterm() {
    let mut host = probe_with(&[]);
    assert_eq!(host.get("/reuse/count").await.text, "1");
    host.signal(rustix::process::Signal::TERM);
    assert_eq!(host.exit_code().await, Some(0));
    let log = host.log();
    assert!(log.iter().all(|line| line["level"] == "INFO"), "{log:?}");
}

#[tokio::test]
async fn a_response_without_a_body_does_not_end_the_work_after_it() {
    let host = probe_with(&[]);
    // The server stops reading a body after the stated length, and reads none of a response to HEAD.
    assert_eq!(
        host.get("/one/work-afterwards-sized").await.text,
        "answered"
    );
    let head = client()
        .head(format!("{}/one/work-afterwards", host.url))
        .send();
    assert_eq!(head.await.unwrap().status(), 200);
    eventually(async || {
        let log = host.log();
        let done = log.iter().filter(|l| l["message"] == "done afterwards");
        (done.count() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_trap_after_the_start_of_the_response_is_counted() {
    let host = probe_with(&[]);
    let answer = client().get(format!("{}/one/trap-midway", host.url)).send();
    // The connection may be closed before the start is sent.
    if let Ok(answer) = answer.await {
        assert!(answer.text().await.is_err());
    }
    let url = format!("{}/v1/components/one", host.admin);
    eventually(async || {
        let one: serde_json::Value = client().get(&url).send().await.ok()?.json().await.ok()?;
        (one["metrics"]["traps"] == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn memory_refused_after_the_start_of_the_response_is_counted_as_a_limit() {
    let host = probe_with(&[]);
    let answer = client().get(format!("{}/one/allocate-midway", host.url));
    if let Ok(answer) = answer.send().await {
        assert!(answer.text().await.is_err());
    }
    let counted = eventually(async || {
        let metrics = metrics(&host, "one").await;
        (metrics["timeouts"] == 1).then_some(metrics)
    })
    .await;
    assert_eq!(counted["traps"], 0);
}

#[tokio::test]
async fn sigterm_waits_no_longer_than_its_limit() {
    let mut host = probe_with(&["--shutdown-timeout", "300ms"]);
    let stuck = tokio::spawn(reqwest::get(format!("{}/one/sleep", host.url)));
    until(&host, "one", 1, 0).await;
    host.signal(rustix::process::Signal::TERM);
    assert_eq!(host.exit_code().await, Some(0));
    assert!(stuck.await.unwrap().is_err());
    let log = host.log();
    assert!(log.iter().any(|line| {
        line["message"]
            .as_str()
            .is_some_and(|m| m.contains("--shutdown-timeout"))
    }));
    let ended = "the host stopped before the request was answered";
    assert!(log.iter().any(|line| line["message"] == ended), "{log:?}");
    assert!(log.iter().all(|line| line["level"] != "ERROR"), "{log:?}");
}
