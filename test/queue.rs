//! Messages over a real NATS server.

mod common;

#[path = "common/nats.rs"]
mod nats;

use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use base64::Engine as _;
use common::{
    Host, PATIENCE, client, component, deploy, eventually, recording, state_dir, write_manifest,
};
use nats::Nats;
use serde_json::{Value, json};

const PROBE: &str = r#"
spin_manifest_version = 2
[application]
name = "messages"

[[trigger.nats]]
subject = "probe.>"
component = "probe"

[component.probe]
source = "{components}/probe-messages.wasm"

[component.probe.tool.whisper-host]
messaging = ["out.*"]

[component.probe.tool.whisper-host.limits]
cpu = "200ms"
timeout = "2s"
request_body = "64KiB"
"#;

/// Starts the probe on a server.
fn probe(nats: &Nats) -> Host {
    Host::with_manifest(PROBE, &["--nats", &nats.url()])
}

/// Starts the default application on a server.
fn default(nats: &Nats) -> Host {
    Host::with(state_dir(), &["--nats", &nats.url()])
}

/// Requests until somebody is subscribed: a host subscribes just after it is ready.
async fn request_with(
    client: &Client,
    subject: &str,
    headers: HeaderMap,
    body: impl Into<bytes::Bytes>,
) -> Message {
    let body = body.into();
    eventually(async || {
        let request = async_nats::Request::new()
            .headers(headers.clone())
            .payload(body.clone())
            .timeout(Some(PATIENCE));
        match client.send_request(subject.to_owned(), request).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                let kind = error.kind();
                assert_eq!(kind, async_nats::RequestErrorKind::NoResponders, "{error}");
                None
            }
        }
    })
    .await
}

async fn request(client: &Client, subject: &str, body: impl Into<bytes::Bytes>) -> String {
    let answer = request_with(client, subject, HeaderMap::new(), body).await;
    String::from_utf8(answer.payload.into()).unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, *value);
    }
    headers
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn a_message_is_answered_like_a_request_and_counts_as_a_call() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let (host, client) = (default(&nats), nats.client().await);
    let audio = recording("story.mp3");
    let answer = request(&client, "audio.process", audio.clone()).await;
    assert_eq!(answer, host.post("/analyze", audio.clone()).await.text);
    // Options are headers.
    let options = headers(&[("timestamps", "segment"), ("Language", "en")]);
    let answer = request_with(&client, "audio.process", options, audio.clone()).await;
    let path = "/analyze?timestamps=segment&language=en";
    let expected = host.post(path, audio.clone()).await;
    assert_eq!(answer.payload, expected.text.as_bytes());
    assert!(json(&expected.text)["segments"].is_array());
    // A form, as with HTTP.
    let form = [
        &b"--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n"[..],
        &audio,
        b"\r\n--b--\r\n",
    ];
    let form_type = headers(&[("Content-Type", "multipart/form-data; boundary=b")]);
    let answer = request_with(&client, "audio.process", form_type, form.concat()).await;
    let transcription = &json(&expected.text)["transcription"];
    assert_eq!(
        &json(std::str::from_utf8(&answer.payload).unwrap())["transcription"],
        transcription
    );
    // Errors are the same, too.
    for (options, body) in [
        (headers(&[]), b"garbage".to_vec()),
        (headers(&[]), Vec::new()),
        (headers(&[("task", "sing")]), audio.clone()),
    ] {
        let query = match options.get("task") {
            Some(_) => "?task=sing",
            None => "",
        };
        let answer = request_with(&client, "audio.process", options, body.clone()).await;
        let expected = host.post(&format!("/analyze{query}"), body).await;
        assert_eq!(answer.payload, expected.text.as_bytes());
        assert!(json(&expected.text)["error"]["message"].is_string());
    }
    let stats = host.get("/stats").await.json();
    assert_eq!(stats["total_calls"], 5, "{stats}");
}

#[tokio::test]
async fn a_message_has_its_headers_a_line_in_the_log_and_a_metric() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let (host, client) = (probe(&nats), nats.client().await);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let sent = headers(&[("traceparent", trace), ("X-Other", "a"), ("X-Other", "b")]);
    let answer = request_with(&client, "probe.deep.echo", sent, "hello").await;
    let answer = String::from_utf8(answer.payload.into()).unwrap();
    // The client keeps headers in no order.
    for part in [
        "probe.deep.echo [",
        "] hello",
        "(\"X-Other\", \"a\")",
        "(\"X-Other\", \"b\")",
        &format!("(\"traceparent\", \"{trace}\")"),
    ] {
        assert!(answer.contains(part), "{answer}");
    }
    let line = host.wait_for_log(|line| line["message"] == "message").await;
    assert_eq!(line["messaging.destination.name"], "probe.deep.echo");
    assert_eq!(line["component"], "probe");
    assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(line["duration_ms"].is_number() && line["request_id"].is_string());
    // Only the host says when a message arrived.
    let forged = headers(&[("x-request-start", "t=0"), ("X-Request-Start", "t=0")]);
    let answer = request_with(&client, "probe.start", forged, "").await;
    let answer = String::from_utf8(answer.payload.into()).unwrap();
    assert!(answer.starts_with("[\"t=1"), "{answer}");
    assert_eq!(answer.matches("t=").count(), 1, "{answer}");

    let url = format!("{}/metrics", host.admin);
    let metrics = client_get(&url).await;
    let series = r#"messaging_process_duration_seconds_count{messaging_system="nats",messaging_destination_name="probe.>",component="probe",error_type=""} 2"#;
    assert!(metrics.contains(series), "{metrics}");
    let list = client_get(&format!("{}/v1/components", host.admin)).await;
    assert!(list.contains("nats:probe.>"), "{list}");
    assert!(list.contains("wasmcloud:messaging/handler@0.2"), "{list}");
}

async fn client_get(url: &str) -> String {
    let response = client().get(url).send().await.unwrap();
    response.text().await.unwrap()
}

#[tokio::test]
async fn failures_are_answered_in_the_form_of_http() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let (host, client) = (probe(&nats), nats.client().await);
    let error = async |subject: &str, body: Vec<u8>| {
        let answer = json(&request(&client, subject, body).await);
        let part = |name: &str| answer["error"][name].as_str().unwrap().to_owned();
        (part("code"), part("message"))
    };
    let (code, message) = error("probe.error", b"this".to_vec()).await;
    assert_eq!(code, "component_error");
    assert!(message.ends_with("cannot handle this"), "{message}");
    let (code, message) = error("probe.trap", Vec::new()).await;
    assert_eq!(code, "component_trap");
    assert!(message.contains("in the host's log"), "{message}");
    let (code, message) = error("probe.spin", Vec::new()).await;
    assert_eq!(code, "deadline_exceeded");
    assert!(message.contains("200ms"), "{message}");
    let (code, message) = error("probe.sleep", b"60000".to_vec()).await;
    assert_eq!(code, "deadline_exceeded");
    assert!(message.contains("2s"), "{message}");
    let (code, _) = error("probe.echo", vec![b'x'; 65 << 10]).await;
    assert_eq!(code, "body_too_large");
    // The answer is larger than the server accepts.
    let (code, message) = error("probe.large-error", Vec::new()).await;
    assert_eq!(code, "component_error");
    assert!(
        message.contains("1048576") && message.contains("max_payload"),
        "{message}"
    );
    let answer = request(&client, "probe.large", "").await;
    assert!(answer.contains("max_payload"), "{answer}");
    // More headers than a component gets.
    let mut many = HeaderMap::new();
    for i in 0..25_000 {
        many.insert(format!("h{i}"), "");
    }
    let answer = request_with(&client, "probe.echo", many, "").await;
    let answer = json(std::str::from_utf8(&answer.payload).unwrap());
    assert_eq!(answer["error"]["code"], "headers_too_large", "{answer}");
    // After all that, it still works.
    assert_eq!(request(&client, "probe.echo", "x").await, "probe.echo [] x");
    let logs = host.log();
    assert!(
        logs.iter()
            .any(|line| line["message"] == "the component trapped")
    );
}

#[tokio::test]
async fn a_component_answers_once_and_sends_to_granted_subjects_only() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let (host, client) = (probe(&nats), nats.client().await);
    assert_eq!(request(&client, "probe.twice", "").await, "first");
    host.wait_for_log(|line| {
        let text = line["message"].as_str().unwrap_or_default();
        text.starts_with("second: Err(") && text.contains("answered before")
    })
    .await;
    let mut out = client.subscribe("out.a").await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(request(&client, "probe.publish", "out.a").await, "Ok(())");
    use futures::StreamExt as _;
    let published = tokio::time::timeout(PATIENCE, out.next()).await.unwrap();
    assert_eq!(published.unwrap().payload, "published");
    for subject in [
        "other",
        "out.a.b",
        "out",
        "$JS.API.INFO",
        "out.*",
        "_INBOX.x",
    ] {
        let answer = request(&client, "probe.publish", subject).await;
        assert!(answer.starts_with("Err("), "{subject}: {answer}");
    }
    // Whoever gets a message answers with rights of its own.
    let answer = request(&client, "probe.publish-for", "out.a out.b").await;
    assert_eq!(answer, "Ok(())");
    for reply_to in ["other", "$JS.API.INFO", "whisper-jobs.low.probe"] {
        let answer = request(&client, "probe.publish-for", format!("out.a {reply_to}")).await;
        assert!(answer.starts_with("Err("), "{reply_to}: {answer}");
    }
    let responder = client.clone();
    let mut asked = client.subscribe("out.b").await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        let message = asked.next().await.unwrap();
        assert_eq!(message.payload, "asked");
        responder
            .publish(message.reply.unwrap(), "answered".into())
            .await
            .unwrap();
    });
    assert_eq!(
        request(&client, "probe.request", "out.b").await,
        "answered true"
    );
    let answer = request(&client, "probe.request", "out.nobody").await;
    assert_eq!(answer, "error: nobody is subscribed to \"out.nobody\"");
    let answer = request(&client, "probe.request", "other").await;
    assert!(
        answer.starts_with("error: this component may not send"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_answer_goes_to_no_subject_that_controls_the_server() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let (host, client) = (probe(&nats), nats.client().await);
    assert_eq!(request(&client, "probe.echo", "x").await, "probe.echo [] x");
    let context = async_nats::jetstream::new(client.clone());
    let settings = async_nats::jetstream::kv::Config {
        bucket: "settings".into(),
        ..Default::default()
    };
    let bucket = context.create_key_value(settings).await.unwrap();
    bucket.put("admin", "nobody".into()).await.unwrap();
    for subject in ["probe.echo", "probe.error"] {
        let (reply_to, body) = ("$KV.settings.admin", "everybody");
        client
            .publish_with_reply(subject, reply_to, body.into())
            .await
            .unwrap();
    }
    eventually(async || {
        let handled = host
            .log()
            .into_iter()
            .filter(|line| line["message"] == "message");
        (handled.count() == 3).then_some(())
    })
    .await;
    let value = bucket.get("admin").await.unwrap().unwrap();
    assert_eq!(value, "nobody");
}

#[tokio::test]
async fn each_message_goes_to_one_host_of_a_group() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let hosts = [probe(&nats), probe(&nats)];
    let client = nats.client().await;
    for host in &hosts {
        host.wait_for_log(|line| line["message"] == "receiving messages")
            .await;
    }
    for i in 0..40 {
        let answer = request(&client, "probe.echo", i.to_string()).await;
        assert_eq!(answer, format!("probe.echo [] {i}"));
    }
    let counts = eventually(async || {
        let counts = hosts.each_ref().map(|host| {
            let log = host.log();
            log.iter()
                .filter(|line| line["message"] == "message")
                .count()
        });
        (counts.iter().sum::<usize>() >= 40).then_some(counts)
    })
    .await;
    assert_eq!(counts.iter().sum::<usize>(), 40, "{counts:?}");
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
}

#[tokio::test]
async fn a_deployed_component_takes_messages_until_it_is_removed() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let (host, client) = (default(&nats), nats.client().await);
    let deployed = common::whisper_host()
        .args(["deploy", &component("probe-messages"), "--id", "orders"])
        .args(["--subject", "orders.*", "--messaging", "out.*"])
        .args(["--admin", &host.admin])
        .output()
        .unwrap();
    let said = String::from_utf8(deployed.stdout).unwrap();
    assert!(said.contains("revision 1 serves nats:orders.*"), "{said}");
    assert_eq!(
        request(&client, "orders.echo", "x").await,
        "orders.echo [] x"
    );
    assert_eq!(request(&client, "orders.publish", "out.x").await, "Ok(())");
    let denied = request(&client, "orders.publish", "other").await;
    assert!(denied.starts_with("Err("), "{denied}");
    // A component without a handler of messages is refused.
    let wasm = std::fs::read(component("stats")).unwrap();
    let manifest = json!({
        "trigger": {"nats": [{"subject": "orders.x", "component": "other"}]},
        "component": {"other": {"tool": {"whisper-host": {"timeseries": true}}}},
    });
    let answer = deploy(&host.admin, "other", &manifest, &wasm)
        .await
        .unwrap();
    assert!(
        answer.text.contains("exports no handler of messages"),
        "{}",
        answer.text
    );
    let url = format!("{}/v1/components/orders", host.admin);
    assert_eq!(
        common::client().delete(url).send().await.unwrap().status(),
        200
    );
    // The client of NATS may drop a message that arrives in the moment in which the subscription ends.
    eventually(async || {
        let request = async_nats::Request::new().timeout(Some(Duration::from_secs(1)));
        let error = client.send_request("orders.echo", request).await.err()?;
        (error.kind() == async_nats::RequestErrorKind::NoResponders).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_message_is_missed_while_one_application_replaces_another() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let (host, client) = (probe(&nats), nats.client().await);
    request(&client, "probe.echo", "x").await;
    let wasm = std::fs::read(component("probe-messages")).unwrap();
    let manifest = json!({
        "trigger": {"nats": [{"subject": "orders.echo", "component": "orders"}]},
        "component": {"orders": {}},
    });
    let replacing = async {
        for round in 0..10 {
            let answer = deploy(&host.admin, "orders", &manifest, &wasm)
                .await
                .unwrap();
            assert_eq!(answer.status, 200, "{round}: {}", answer.text);
            host.signal(rustix::process::Signal::HUP);
        }
    };
    let mut replacing = std::pin::pin!(replacing);
    let mut answered = 0;
    loop {
        let asking = client.request("probe.echo", "x".into());
        tokio::select! {
            answer = asking => assert_eq!(&answer.unwrap().payload[..], b"probe.echo [] x"),
            () = &mut replacing => break,
        }
        answered += 1;
    }
    assert!(answered > 10, "{answered}");
    let lines = host.log();
    let subscribed = |subject: &str| {
        let lines = lines
            .iter()
            .filter(|line| line["message"] == "receiving messages" && line["subject"] == subject);
        lines.count()
    };
    assert_eq!((subscribed("probe.>"), subscribed("orders.echo")), (1, 1));
}

#[tokio::test]
async fn a_host_survives_its_server_and_answers_before_it_stops() {
    let Some(mut nats) = Nats::start().await else {
        return;
    };
    nats.kill();
    // The server is not there yet.
    let mut host = probe(&nats);
    host.wait_for_log(|line| {
        let text = line["message"].as_str().unwrap_or_default();
        text.starts_with("NATS cannot be reached")
    })
    .await;
    let ready = async || host.get("/readyz").await.json()["nats"].clone();
    assert_eq!(ready().await, "connecting");
    nats.restart().await;
    let client = nats.client().await;
    assert_eq!(request(&client, "probe.echo", "1").await, "probe.echo [] 1");
    // By a connection of its own.
    eventually(async || (ready().await == "connected").then_some(())).await;
    nats.kill();
    host.wait_for_log(|line| {
        let text = line["message"].as_str().unwrap_or_default();
        text.starts_with("the connection to NATS is lost")
    })
    .await;
    nats.restart().await;
    let client = nats.client().await;
    assert_eq!(request(&client, "probe.echo", "2").await, "probe.echo [] 2");
    // A message that arrived before the signal is answered.
    let (sender, received) = tokio::sync::oneshot::channel();
    let asking = client.clone();
    tokio::spawn(async move {
        let request = async_nats::Request::new()
            .payload("1500".into())
            .timeout(Some(PATIENCE));
        let answer = asking.send_request("probe.sleep", request).await.unwrap();
        sender.send(answer).unwrap();
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    host.signal(rustix::process::Signal::TERM);
    let answer = received.await.unwrap();
    assert_eq!(answer.payload, "slept 1500 ms");
    assert_eq!(host.exit_code().await, Some(0));
    // A host whose server is gone ends at once.
    let arguments = ["--nats", &nats.url(), "--shutdown-timeout", "10m"];
    let mut host = Host::with_manifest(PROBE, &arguments);
    request(&client, "probe.echo", "3").await;
    nats.kill();
    host.wait_for_log(|line| {
        let text = line["message"].as_str().unwrap_or_default();
        text.starts_with("the connection to NATS is lost")
    })
    .await;
    host.signal(rustix::process::Signal::TERM);
    assert_eq!(host.exit_code().await, Some(0));
}

/// A server that sends a length that no message has ends the client. The host starts another one.
#[tokio::test]
async fn a_server_that_breaks_the_protocol_does_not_end_the_subscription() {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let subscriptions = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&subscriptions);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let counted = std::sync::Arc::clone(&counted);
            tokio::spawn(async move {
                let (reader, mut writer) = stream.into_split();
                let info = "INFO {\"server_id\":\"x\",\"version\":\"2.10.0\",\"headers\":true,\"max_payload\":1048576,\"proto\":1}\r\n";
                writer.write_all(info.as_bytes()).await.unwrap();
                let mut lines = BufReader::new(reader).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if line.starts_with("PING") {
                        writer.write_all(b"PONG\r\n").await.unwrap();
                    }
                    if let Some(subscription) = line.strip_prefix("SUB probe.> probe ") {
                        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        let sid = subscription.trim();
                        let message = format!("MSG probe.echo {sid} 18446744073709551615\r\n");
                        writer.write_all(message.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    let host = Host::with_manifest(PROBE, &["--nats", &format!("nats://{address}")]);
    let count = || subscriptions.load(std::sync::atomic::Ordering::Relaxed);
    eventually(async || (count() >= 2).then_some(())).await;
    host.wait_for_log(|line| {
        let text = line["message"].as_str().unwrap_or_default();
        text.starts_with("the client of NATS has ended")
    })
    .await;
    assert_eq!(host.get("/healthz").await.status, 200);
}

/// Messages that the client of NATS cannot parse break its connection. Who may send to one trigger must not do that to others.
#[tokio::test]
async fn malformed_messages_do_not_interrupt_other_triggers_and_jobs() {
    use tokio::io::AsyncWriteExt as _;

    let Some(nats) = Nats::start().await else {
        return;
    };
    let manifest = format!(
        r#"
{PROBE}
[[trigger.nats]]
subject = "other.>"
component = "other"

[component.other]
source = "{{components}}/probe-messages.wasm"

[[trigger.http]]
route = "/hello"
jobs = "/jobs"
component = "hello"

[component.hello]
source = "{{components}}/probe-wasi02.wasm"
"#
    );
    let host = Host::with_manifest(&manifest, &["--nats", &nats.url()]);
    let client = nats.client().await;
    request(&client, "probe.echo", "x").await;
    request(&client, "other.echo", "x").await;
    let address = nats.url().replace("nats://", "");
    let attacking = tokio::spawn(async move {
        let mut attacker = tokio::net::TcpStream::connect(address).await.unwrap();
        let connect = b"CONNECT {\"verbose\":false,\"headers\":true}\r\n";
        attacker.write_all(connect).await.unwrap();
        loop {
            let message = b"HPUB probe.echo 19 19\r\nNATS/1.0\r\na: \xff\xff\r\n\r\n\r\n";
            attacker.write_all(message).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    host.wait_for_log(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("the connection to NATS is lost") && line["for"] == "probe.>"
    })
    .await;
    for _ in 0..100 {
        let answer = client.request("other.echo", "x".into()).await.unwrap();
        assert_eq!(&answer.payload[..], b"other.echo [] x");
        let created = host.post("/jobs", "").await;
        assert_eq!(created.status, 202, "{}", created.text);
    }
    attacking.abort();
    let lost = host.log().into_iter().filter(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("the connection to NATS is lost")
    });
    assert!(lost.clone().all(|line| line["for"] == "probe.>"));
    // One line a second, not one for each.
    assert!(lost.count() < 60);
    eventually(async || {
        let request = async_nats::Request::new().timeout(Some(Duration::from_secs(1)));
        client.send_request("probe.echo", request).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_message_that_the_end_cuts_off_is_answered_with_an_error() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    let manifest = PROBE.replace("timeout = \"2s\"", "timeout = \"5m\"");
    let arguments = ["--nats", &nats.url(), "--shutdown-timeout", "0s"];
    let mut host = Host::with_manifest(&manifest, &arguments);
    let client = nats.client().await;
    assert_eq!(request(&client, "probe.echo", "1").await, "probe.echo [] 1");
    let asking = client.clone();
    let asked = tokio::spawn(async move {
        let request = async_nats::Request::new()
            .payload("60000".into())
            .timeout(Some(PATIENCE));
        asking.send_request("probe.sleep", request).await.unwrap()
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    host.signal(rustix::process::Signal::TERM);
    let answer = asked.await.unwrap();
    let answer = json(std::str::from_utf8(&answer.payload).unwrap());
    assert_eq!(answer["error"]["code"], "overloaded", "{answer}");
    assert_eq!(host.exit_code().await, Some(0));
}

#[tokio::test]
async fn the_host_proves_who_it_is() {
    let nkey = nkeys::KeyPair::new_user();
    let (seed, key) = (nkey.seed().unwrap(), nkey.public_key());
    let users = format!(
        "authorization {{ users: [ {{ user: me, password: secret }}, {{ nkey: {key} }} ] }}\n"
    );
    let Some(nats) = Nats::with(&users).await else {
        return;
    };
    let state = state_dir();
    let manifest = write_manifest(state.path(), PROBE);
    let file = state.path().join("seed");
    std::fs::write(&file, format!("{seed}\n")).unwrap();
    let with_password =
        async_nats::ConnectOptions::with_user_and_password("me".into(), "secret".into());
    let client = with_password.connect(nats.url()).await.unwrap();
    let authority = nats.url().replace("nats://", "");
    let url = format!("nats://me:secret@{authority}");
    let user = ["--nats", &nats.url(), "--nats-user", "me"];
    let nkey = ["--nats", &nats.url(), "--nats-nkey", file.to_str().unwrap()];
    for (arguments, environment) in [
        (&["--nats", &url][..], &[][..]),
        (&user, &[("NATS_PASSWORD", "secret")]),
        (&nkey, &[]),
    ] {
        let arguments = [&["-f", manifest.to_str().unwrap()], arguments].concat();
        let host = Host::with_environment(state_dir(), &arguments, environment);
        assert_eq!(request(&client, "probe.echo", "x").await, "probe.echo [] x");
        let log = std::fs::read_to_string(host.state.path().join("log")).unwrap();
        assert!(!log.contains("secret") && !host.start_up.contains("secret"));
    }
    // A wrong password is an error at the start, not a reason to try again.
    let output = common::whisper_host()
        .args([
            "up",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ])
        .args(["-f", manifest.to_str().unwrap(), "--state-dir"])
        .arg(state.path())
        .args(["--nats", &nats.url(), "--nats-user", "me"])
        .env("NATS_PASSWORD", "wrong-secret")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("cannot connect to NATS") && !error.contains("wrong-secret"),
        "{error}"
    );
}

/// A token of NATS: claims that `issuer` signs.
fn token(issuer: &nkeys::KeyPair, subject: &str, claims: Value) -> String {
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"}).to_string();
    let claims = json!({
        "jti": subject, "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject, "name": "test", "nats": claims,
    });
    let text = format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(claims.to_string().as_bytes())
    );
    let signature = issuer.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", encode(&signature))
}

#[tokio::test]
async fn the_host_proves_who_it_is_by_a_file_of_credentials() {
    let (operator, account) = (
        nkeys::KeyPair::new_operator(),
        nkeys::KeyPair::new_account(),
    );
    let (system, user) = (nkeys::KeyPair::new_account(), nkeys::KeyPair::new_user());
    let limits = json!({
        "subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1, "wildcards": true,
    });
    // The system account may not have JetStream.
    let mut with_jetstream = limits.clone();
    for storage in ["mem_storage", "disk_storage"] {
        with_jetstream[storage] = json!(-1);
    }
    let of_user = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
    let preload = [(&account, with_jetstream), (&system, limits)].map(|(account, limits)| {
        let key = account.public_key();
        let claims = json!({"type": "account", "version": 2, "limits": limits});
        format!("{key}: {}", token(&operator, &key, claims))
    });
    let config = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}\n}}\n",
        token(
            &operator,
            &operator.public_key(),
            json!({"type": "operator", "version": 2})
        ),
        system.public_key(),
        preload.join("\n")
    );
    let Some(nats) = Nats::with(&config).await else {
        return;
    };
    let state = state_dir();
    let file = state.path().join("user.creds");
    let credentials = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        token(&account, &user.public_key(), of_user),
        user.seed().unwrap()
    );
    std::fs::write(&file, credentials).unwrap();
    let options = async_nats::ConnectOptions::with_credentials_file(&file).await;
    let client = options.unwrap().connect(nats.url()).await.unwrap();
    let manifest = write_manifest(state.path(), PROBE);
    let (url, file) = (nats.url(), file.to_str().unwrap().to_owned());
    let arguments = ["-f", manifest.to_str().unwrap(), "--nats", &url];
    let refused = refused_with(&arguments);
    assert!(refused.contains("cannot connect to NATS"), "{refused}");
    let _host = Host::with(state, &[&arguments[..], &["--nats-creds", &file]].concat());
    assert_eq!(request(&client, "probe.echo", "x").await, "probe.echo [] x");
}

#[tokio::test]
async fn the_host_and_the_server_verify_each_other_by_certificates() {
    let folder = common::root().join("test/tls");
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.join(name));
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().unwrap());
    let config = format!(
        "tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", ca_file: \"{certificate}\", verify: true }}\n"
    );
    let Some(nats) = Nats::with(&config).await else {
        return;
    };
    let url = nats.url().replace("nats://", "tls://");
    let options = async_nats::ConnectOptions::new()
        .add_root_certificates(certificate.into())
        .add_client_certificate(certificate.into(), key.into());
    let client = options.connect(&url).await.unwrap();
    let state = state_dir();
    let manifest = write_manifest(state.path(), PROBE);
    let arguments = ["-f", manifest.to_str().unwrap(), "--nats", &url];
    let trusting = [&arguments[..], &["--nats-ca", certificate]].concat();
    for untrusted in [&arguments[..], &trusting[..]] {
        let refused = refused_with(untrusted);
        assert!(refused.contains("cannot connect to NATS"), "{refused}");
    }
    let proving = ["--nats-cert", certificate, "--nats-key", key];
    let _host = Host::with(state, &[&trusting[..], &proving].concat());
    assert_eq!(request(&client, "probe.echo", "x").await, "probe.echo [] x");
}

/// What a host says that cannot start.
fn refused_with(arguments: &[&str]) -> String {
    let state = state_dir();
    let output = common::whisper_host()
        .arg("up")
        .args(arguments)
        .arg("--state-dir")
        .arg(state.path())
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// A manifest with a program that runs every second, with a variable.
fn every_second(variable: &str) -> String {
    format!(
        r#"
spin_manifest_version = 2
[application]
name = "scheduled"

[[trigger.cron]]
schedule = "* * * * * *"
component = "tidy"

[component.tidy]
source = "{{components}}/probe-run.wasm"
environment = {{ DO = "{variable}" }}
"#
    )
}

#[tokio::test]
async fn a_program_runs_at_the_times_of_its_schedule() {
    let host = Host::with_manifest(&every_second("nothing"), &[]);
    assert!(
        host.start_up.contains("cron:* * * * * *"),
        "{}",
        host.start_up
    );
    assert!(
        host.start_up.contains("wasi:cli/run@0.2"),
        "{}",
        host.start_up
    );
    let runs = eventually(async || {
        let runs = host
            .log()
            .into_iter()
            .filter(|line| line["message"] == "run");
        let runs: Vec<Value> = runs.collect();
        (runs.len() >= 3).then_some(runs)
    })
    .await;
    for run in &runs {
        assert_eq!(run["component"], "tidy");
        assert_eq!(run["schedule"], "* * * * * *");
        assert!(run["error.type"].is_null(), "{run}");
    }
    let printed = host
        .log()
        .into_iter()
        .find(|line| line["message"] == "running");
    let printed = printed.unwrap();
    assert_eq!(printed["request_id"], runs[0]["request_id"]);
}

#[tokio::test]
async fn a_failed_run_says_why_and_the_next_one_starts() {
    for (variable, error, reason) in [
        ("exit", "component_error", "exit code 1"),
        ("trap", "component_trap", "unreachable"),
    ] {
        let host = Host::with_manifest(&every_second(variable), &[]);
        eventually(async || {
            let runs = host
                .log()
                .into_iter()
                .filter(|line| line["error.type"] == error);
            (runs.count() >= 2).then_some(())
        })
        .await;
        let why = |line: &Value| {
            line["error"]
                .as_str()
                .is_some_and(|text| text.contains(reason))
        };
        assert!(host.log().iter().any(why), "{variable}");
    }
}

#[tokio::test]
async fn a_run_that_takes_too_long_delays_the_next_and_ends_before_the_host() {
    let mut host = Host::with_manifest(&every_second("sleep"), &[]);
    host.wait_for_log(|line| {
        let text = line["message"].as_str().unwrap_or_default();
        text.starts_with("a run was skipped")
    })
    .await;
    let count = |message: &str| {
        host.log()
            .iter()
            .filter(|line| line["message"] == message)
            .count()
    };
    eventually(async || (count("running") > count("run")).then_some(())).await;
    host.signal(rustix::process::Signal::TERM);
    assert_eq!(host.exit_code().await, Some(0));
    let count = |message: &str| {
        host.log()
            .iter()
            .filter(|line| line["message"] == message)
            .count()
    };
    assert_eq!(count("running"), count("run"));
}

#[tokio::test]
async fn without_nats_the_host_says_what_it_does_not_receive() {
    let host = Host::start();
    host.wait_for_log(|line| {
        let text = line["message"].as_str().unwrap_or_default();
        text.starts_with("messages are not received") && line["subjects"] == "audio.process"
    })
    .await;
}
