//! Deploying handlers to a running host.

mod common;

use std::process::Output;

use common::{Host, client, component, recording, root, said_in, state_dir, whisper_host};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A command against the admin interface of `host`.
async fn run(host: &Host, args: &[&str]) -> Output {
    let mut command = whisper_host();
    command.args(args).args(["--admin", &host.admin]);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

async fn run_ok(host: &Host, args: &[&str]) -> String {
    let output = run(host, args).await;
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

async fn run_refused(host: &Host, args: &[&str]) -> String {
    let output = run(host, args).await;
    assert_eq!(
        output.status.code(),
        Some(1),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stderr).unwrap()
}

/// SHA-256 in hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The manifest of a component that reports its number.
fn numbered(number: u32) -> Value {
    let environment = serde_json::json!({"environment": {"N": number.to_string()}});
    common::fragment("mine", "/mine/...", environment)
}

/// An application with one component, so that hosts start quickly.
fn probe() -> Host {
    Host::with_manifest(MANIFEST, &[])
}

const MANIFEST: &str = r#"
spin_manifest_version = 2
application = { name = "probe" }

[[trigger.http]]
route = "/given/..."
component = "given"

[component.given]
source = "{components}/probe-wasi02.wasm"
"#;

#[tokio::test]
async fn a_deployed_handler_is_served_at_once_with_its_grants() {
    let host = probe();
    assert_eq!(host.get("/mine/environment").await.status, 404);
    let (wasm, mine) = (
        component("probe-wasi02"),
        ["--route", "/mine/...", "--id", "mine"],
    );
    let said = run_ok(
        &host,
        &[
            &["deploy", &wasm][..],
            &mine,
            &["--env", "A=b", "--env", "C=d=e"],
        ]
        .concat(),
    )
    .await;
    assert_eq!(said, "mine: revision 1 serves /mine/...\n");
    assert_eq!(host.get("/mine/environment").await.text, "A=b\nC=d=e");
    assert_eq!(host.get("/given/hello").await.text, "hello");

    // The id defaults to the file name; 0.3 is deployed like 0.2.
    run_ok(
        &host,
        &["deploy", &component("probe-wasi03"), "--route", "/three"],
    )
    .await;
    assert_eq!(host.get("/three").await.text, "hello from 0.3");
}

#[tokio::test]
async fn a_deployed_handler_may_use_the_model_and_components_of_the_application() {
    let host = Host::start();
    let args = [
        "deploy",
        &component("word-count"),
        "--route",
        "/words",
        "--ai-model",
        "whisper",
    ];
    run_ok(
        &host,
        &[
            &args[..],
            &["--dependency", "speech:pipeline/features=audio"],
        ]
        .concat(),
    )
    .await;
    let answer = host.post("/words", recording("garden.flac")).await;
    assert_eq!(answer.text.trim(), said_in("garden.flac").len().to_string());
}

#[tokio::test]
async fn a_failed_deployment_is_refused_and_changes_nothing() {
    let host = probe();
    run_ok(
        &host,
        &[
            "deploy",
            &component("probe-wasi02"),
            "--route",
            "/mine/...",
            "--id",
            "mine",
        ],
    )
    .await;
    let before = run_ok(&host, &["show", "mine", "--json"]).await;
    let core = root().join("test/manifests/core-module.wasm");
    let probe = component("probe-wasi02");
    for (args, expected) in [
        (
            &[core.to_str().unwrap(), "--route", "/mine/..."][..],
            "not a component",
        ),
        (&["Makefile", "--route", "/mine/..."], "is not WebAssembly"),
        (
            &["/dev/zero", "--route", "/mine/..."],
            "larger than the 128 MiB",
        ),
        (
            &[&component("audio"), "--route", "/mine/..."],
            "exports no HTTP handler",
        ),
        (
            &[&component("stats"), "--route", "/mine/..."],
            "write `timeseries = true`",
        ),
        (
            &[
                &component("word-count"),
                "--route",
                "/m",
                "--ai-model",
                "llama",
            ],
            "names \"llama\"",
        ),
        (&[&probe, "--route", "mine"], "must start with `/`"),
        (
            &[&probe, "--route", "/given/..."],
            "clashes with another route",
        ),
        (
            &[&probe, "--route", "/mine/...", "--env", "A"],
            "NAME=VALUE",
        ),
        (
            &[&probe, "--route", "/mine/...", "--allow-host", "x"],
            "scheme://host:port",
        ),
        (
            &[&probe, "--route", "/mine/...", "--health", "/mine/trap"],
            "the health path /mine/trap of component mine failed",
        ),
        (
            &[&probe, "--route", "/mine/...", "--health", "/given/hello"],
            "does not lead to component mine",
        ),
    ] {
        let said = run_refused(&host, &[&["deploy", "--id", "mine"], args].concat()).await;
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    let said = run_refused(&host, &["deploy", &probe, "--route", "/x", "--id", "given"]).await;
    assert!(said.contains("belongs to the manifest"), "{said}");
    assert_eq!(host.get("/mine/hello").await.text, "hello");
    let without_metrics = |text: &str| {
        let mut value: Value = serde_json::from_str(text).unwrap();
        value["metrics"] = Value::Null;
        value
    };
    let after = run_ok(&host, &["show", "mine", "--json"]).await;
    assert_eq!(without_metrics(&after), without_metrics(&before));
    // Refused deployments leave nothing on disk.
    assert_eq!(
        std::fs::read_dir(host.state.path().join("deployments/blobs"))
            .unwrap()
            .count(),
        1
    );
}

#[tokio::test]
async fn rollback_serves_an_earlier_revision_and_remove_removes_all() {
    let host = probe();
    for value in ["1", "2", "3"] {
        let env = format!("N={value}");
        run_ok(
            &host,
            &[
                "deploy",
                &component("probe-wasi02"),
                "--route",
                "/mine/...",
                "--id",
                "mine",
                "--env",
                &env,
            ],
        )
        .await;
    }
    let served = async || host.get("/mine/environment").await.text;
    assert_eq!(served().await, "N=3");
    run_ok(&host, &["rollback", "mine"]).await;
    assert_eq!(served().await, "N=2");
    run_ok(&host, &["rollback", "mine", "1"]).await;
    assert_eq!(served().await, "N=1");
    assert!(
        run_refused(&host, &["rollback", "mine"])
            .await
            .contains("has no earlier revision; it has 1, 2, 3")
    );
    run_ok(&host, &["rollback", "mine", "3"]).await;
    assert_eq!(served().await, "N=3");
    run_ok(&host, &["remove", "mine"]).await;
    assert_eq!(host.get("/mine/environment").await.status, 404);
    assert!(
        run_refused(&host, &["remove", "mine"])
            .await
            .contains("no component mine is deployed")
    );
}

#[tokio::test]
async fn the_history_is_bounded() {
    let host = probe();
    for i in 0..15 {
        let env = format!("N={i}");
        run_ok(
            &host,
            &[
                "deploy",
                &component("probe-wasi02"),
                "--route",
                "/mine/...",
                "--id",
                "mine",
                "--env",
                &env,
            ],
        )
        .await;
    }
    let shown: Value =
        serde_json::from_str(&run_ok(&host, &["show", "mine", "--json"]).await).unwrap();
    let revisions: Vec<u64> = shown["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["revision"].as_u64().unwrap())
        .collect();
    assert_eq!(revisions, (6..=15).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deployments_survive_a_kill_at_any_moment() {
    let host = probe();
    let admin = host.admin.clone();
    let wasm = std::fs::read(component("probe-wasi02")).unwrap();
    // Deploys until the host is gone; the last deployment with a response counts.
    let deploying = tokio::spawn(async move {
        let mut answered = 0;
        for i in 1.. {
            match common::deploy(&admin, "mine", &numbered(i), &wasm).await {
                Some(answer) if answer.status == 200 => answered = i,
                _ => break,
            }
        }
        answered
    });
    common::eventually(async || {
        let served = host.get("/mine/environment").await.text;
        served
            .strip_prefix("N=")
            .and_then(|n| n.parse::<u32>().ok())
            .filter(|n| *n >= 20)
    })
    .await;
    let state = host.kill();
    let answered = deploying.await.unwrap();
    common::write_manifest(state.path(), MANIFEST);
    let manifest = state.path().join("spin.toml");
    let host = Host::with(state, &["-f", manifest.to_str().unwrap()]);
    let served: u32 = host
        .get("/mine/environment")
        .await
        .text
        .strip_prefix("N=")
        .unwrap()
        .parse()
        .unwrap();
    // The deployment in flight may have been written, but not answered.
    assert!(
        served == answered || served == answered + 1,
        "{served} is served, {answered} was answered"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_while_revisions_come_and_go() {
    let host = probe();
    let wasm = std::fs::read(component("probe-wasi02")).unwrap();
    let deploy = async |n: u32| {
        let answer = common::deploy(&host.admin, "mine", &numbered(n), &wasm).await;
        assert_eq!(answer.unwrap().status, 200);
    };
    deploy(0).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (url, stopped) = (format!("{}/mine/environment", host.url), stopped.clone());
            tokio::spawn(async move {
                let (client, mut last, mut calls) = (client(), 0, 0);
                while !*stopped.borrow() {
                    let answer = client.get(&url).send().await.unwrap();
                    assert_eq!(answer.status(), 200);
                    let served: u32 = answer
                        .text()
                        .await
                        .unwrap()
                        .strip_prefix("N=")
                        .unwrap()
                        .parse()
                        .unwrap();
                    assert!(served >= last, "revision {served} after {last}");
                    (last, calls) = (served, calls + 1);
                }
                calls
            })
        })
        .collect();
    for n in 1..=50 {
        deploy(n).await;
    }
    stop.send(true).unwrap();
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }
    assert!(calls > 50, "only {calls} calls were made meanwhile");
}

#[tokio::test]
async fn list_and_logs_show_what_components_do() {
    let host = probe();
    run_ok(
        &host,
        &[
            "deploy",
            &component("probe-wasi02"),
            "--route",
            "/mine/...",
            "--id",
            "mine",
        ],
    )
    .await;
    for path in ["/mine/hello", "/mine/print", "/mine/trap"] {
        host.get(path).await;
    }
    let listed: Value = serde_json::from_str(&run_ok(&host, &["list", "--json"]).await).unwrap();
    let mine = listed["components"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["id"] == "mine")
        .unwrap();
    assert_eq!(mine["revision"], 1);
    assert_eq!(mine["metrics"]["requests"], 3);
    assert_eq!(mine["metrics"]["traps"], 1);
    assert_eq!(mine["metrics"]["running"], 0);
    assert!(
        mine["metrics"]["memory_high_water"].as_u64().unwrap() >= 64 << 10,
        "{mine}"
    );
    let table = run_ok(&host, &["list"]).await;
    assert!(
        table
            .lines()
            .any(|line| line.starts_with("mine") && line.contains("/mine/...")),
        "{table}"
    );
    let logs = run_ok(&host, &["logs", "mine"]).await;
    let printed: Vec<_> = logs
        .lines()
        .map(|line| line.splitn(3, ' ').last())
        .collect();
    assert!(
        printed.windows(2).any(|pair| pair
            == [
                Some("stdout to standard output"),
                Some("stderr to standard error")
            ]),
        "{logs}"
    );
    let trap = host
        .wait_for_log(|line| line["message"] == "the component trapped")
        .await;
    let id = trap["request_id"].as_str().unwrap();
    let said = format!(" {id} host   the component trapped: error while executing");
    let line = logs.lines().find(|line| line.contains(&said));
    let (time, _) = line
        .unwrap_or_else(|| panic!("{logs}"))
        .split_once(' ')
        .unwrap();
    assert!(humantime::parse_rfc3339(time).is_ok(), "{logs}");
    assert!(
        run_refused(&host, &["logs", "yours"])
            .await
            .contains("there is no component yours")
    );

    let url = format!("{}/v1/components/given/logs?follow=true", host.admin);
    let mut following = reqwest::get(url).await.unwrap();
    host.get("/given/print").await;
    let line: Value = serde_json::from_slice(&following.chunk().await.unwrap().unwrap()).unwrap();
    assert_eq!(line["text"], "to standard output");
}

#[tokio::test]
async fn a_dependency_is_not_replaced_by_an_incompatible_component() {
    let host = Host::start();
    let stats = ["deploy", &component("stats"), "--timeseries"];
    let rec = [&stats[..], &["--id", "rec", "--route", "/rec"]].concat();
    run_ok(&host, &rec).await;
    // Its id sorts before that of its dependency, which does not matter.
    let deploy = ["deploy", &component("analyze"), "--timeseries"];
    let app = [
        &deploy[..],
        &["--id", "app", "--route", "/app", "--ai-model", "whisper"],
        &["--dependency", "speech:pipeline/features=audio"],
        &["--dependency", "speech:pipeline/calls=rec"],
    ]
    .concat();
    run_ok(&host, &app).await;
    let probe = component("probe-wasi02");
    let unfit = ["deploy", &probe, "--id", "rec", "--route", "/rec"];
    let said = run_refused(&host, &unfit).await;
    assert!(said.contains("app") && said.contains("calls"), "{said}");
    let said = run_refused(&host, &["remove", "rec"]).await;
    assert!(said.contains("component app depends on rec"), "{said}");

    let host = Host::with(host.kill(), &[]);
    let answer = host.post("/app", recording("garden.flac")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn a_component_that_can_no_longer_be_loaded_does_not_block_changes_of_others() {
    let host = Host::start();
    let words = component("word-count");
    for id in ["first", "second"] {
        let route = format!("/{id}");
        let deploy = ["deploy", &words, "--id", id, "--route", &route];
        let given = ["--ai-model", "whisper", "--dependency"];
        let audio = ["speech:pipeline/features=audio"];
        run_ok(&host, &[&deploy[..], &given, &audio].concat()).await;
    }
    let state = host.kill();
    let without_audio = format!("{MANIFEST}ai_models = [\"whisper\"]\n");
    let manifest = common::write_manifest(state.path(), &without_audio);
    let host = Host::with(state, &["-f", manifest.to_str().unwrap()]);
    common::eventually(async || {
        let log = host.log();
        let unloadable = log
            .iter()
            .filter(|line| line["message"] == "a deployed component cannot be loaded");
        (unloadable.count() == 2).then_some(())
    })
    .await;
    let list = run_ok(&host, &["list"]).await;
    let loaded = async |id: &str| {
        let list = run_ok(&host, &["list", "--json"]).await;
        let list: Value = serde_json::from_str(&list).unwrap();
        let components = list["components"].as_array().unwrap();
        let listed = components.iter().find(|listed| listed["id"] == id);
        listed.unwrap()["loaded"] == true
    };
    assert_eq!(list.matches("not loaded").count(), 2, "{list}");
    assert!(loaded("given").await && !loaded("first").await && !loaded("second").await);
    let probe = component("probe-wasi02");
    let mine = ["deploy", &probe, "--id", "mine", "--route", "/mine/..."];
    run_ok(&host, &mine).await;
    assert_eq!(host.get("/mine/hello").await.text, "hello");

    // A reload tries them again.
    let audio = "[component.audio]\nsource = \"{components}/audio.wasm\"\n";
    let repaired = format!("{without_audio}\n{audio}");
    common::write_manifest(host.state.path(), &repaired);
    host.signal(Signal::HUP);
    common::eventually(async || loaded("first").await.then_some(())).await;
    assert!(loaded("second").await);
    let answer = host.post("/second", recording("garden.flac")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    run_ok(&host, &["remove", "first"]).await;
    run_ok(&host, &["remove", "second"]).await;
}

#[tokio::test]
async fn parameters_that_are_unknown_or_given_twice_are_refused() {
    let host = Host::with_manifest(MANIFEST, &[]);
    let url = |path: &str| format!("{}/v1/components{path}", host.admin);
    for (method, path, problem) in [
        ("GET", "?all=true", "unknown parameter all"),
        ("GET", "/given?verbose=true", "unknown parameter verbose"),
        ("DELETE", "/given?force=true", "unknown parameter force"),
        ("GET", "/given/logs?follow=yes", "neither true nor false"),
        ("GET", "/given/logs?follow=true&follow=true", "given twice"),
        (
            "POST",
            "/given/rollback?revision=1&revision=2",
            "given twice",
        ),
        ("PUT", "/x?health=/a&health=/b", "given twice"),
        ("PUT", "/x?route=/a", "unknown parameter route"),
        ("PUT", "/x?force=true", "unknown parameter force"),
    ] {
        let request = client().request(method.parse().unwrap(), url(path));
        let answer = common::answer(request.send().await.unwrap()).await;
        assert_eq!(
            answer.error(),
            (400, "bad_request".into()),
            "{method} {path}"
        );
        assert!(
            answer.message().contains(problem),
            "{path}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn an_invalid_manifest_is_refused_and_the_message_says_why() {
    let host = Host::with_manifest(MANIFEST, &[]);
    let wasm = std::fs::read(component("probe-wasi02")).unwrap();
    let of = |fields: Value| common::fragment("x", "/x", fields);
    let trigger = |trigger: Value| serde_json::json!({"component": {"x": {}}, "trigger": trigger});
    for (manifest, problem) in [
        (serde_json::json!({}), "the manifest has no [component.x]"),
        (serde_json::json!([]), "the manifest has no [component.x]"),
        (serde_json::json!("x"), "the manifest has no [component.x]"),
        (
            serde_json::json!({"component": 1}),
            "the manifest has no [component.x]",
        ),
        (
            of(serde_json::json!({"source": "a.wasm"})),
            "`source` is not allowed here",
        ),
        (
            of(serde_json::json!({"enviroment": {}})),
            "did you mean `environment`?",
        ),
        (
            of(serde_json::json!({"tool": {"whisper-host": {"timeserie": true}}})),
            "did you mean `timeseries`?",
        ),
        (
            of(serde_json::json!({"tool": {"whisper-host": {"timeseries": 1}}})),
            "where a boolean is expected",
        ),
        (
            of(serde_json::json!({"tool": {"whisper-host": {"limits": {"timeout": "0s"}}}})),
            "no time",
        ),
        (
            of(serde_json::json!({"dependencies": {"a:b/c": {"component": "nobody"}}})),
            "there is no [component.nobody]",
        ),
        (
            of(serde_json::json!({"variables": {"a": "{{ missing }}"}})),
            "which is not under [variables]",
        ),
        (
            of(serde_json::json!({"files": ["nothing/*"]})),
            "matches no file",
        ),
        (trigger(serde_json::json!({})), "nothing would call it"),
        (
            trigger(serde_json::json!({"redis": [{"component": "x"}]})),
            "field `redis` of Spin's manifest is not supported",
        ),
        (
            trigger(serde_json::json!({"http": [{"component": "x"}]})),
            "missing field `route`",
        ),
        (
            trigger(serde_json::json!({"http": [{"component": "x", "route": "x"}]})),
            "must start with `/`",
        ),
        (
            trigger(serde_json::json!({"http": [{"component": "y", "route": "/x"}]})),
            "each trigger must name this component",
        ),
    ] {
        let answer = common::deploy(&host.admin, "x", &manifest, &wasm)
            .await
            .unwrap();
        assert_eq!(answer.error(), (422, "refused".into()), "{manifest}");
        assert!(
            answer.message().contains(problem),
            "{manifest}: {}",
            answer.text
        );
    }
    let url = format!("{}/v1/components/x", host.admin);
    let good = of(serde_json::json!({}));
    let form = || reqwest::multipart::Form::new();
    for (form, problem) in [
        (
            form().text("component", "x"),
            "the part `manifest` is missing",
        ),
        (
            form().text("manifest", good.to_string()),
            "the part `component` is missing",
        ),
        (form().text("manifest", "{"), "the manifest is not JSON"),
        (
            common::deployment(&good, wasm.clone()).text("manifest", "{}"),
            "given twice",
        ),
        (
            common::deployment(&good, wasm.clone()).text("route", "/x"),
            "unknown part route",
        ),
    ] {
        let answer = client().put(&url).multipart(form).send().await.unwrap();
        let answer = common::answer(answer).await;
        assert_eq!(answer.error(), (400, "bad_request".into()), "{problem}");
        assert!(answer.message().contains(problem), "{}", answer.text);
    }
    let toml = "component.x = {}\ntrigger.http = [{ component = 'x', route = '/x' }]";
    let toml = reqwest::multipart::Part::text(toml)
        .mime_str("application/toml; charset=utf-8")
        .unwrap();
    let bytes = reqwest::multipart::Part::bytes(wasm.clone());
    let form = form().part("manifest", toml).part("component", bytes);
    let answer = client().put(&url).multipart(form).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let url_of_none = format!("{}/v1/components/%ff", host.admin);
    let answer = client().get(url_of_none).send().await.unwrap();
    assert_eq!(
        common::answer(answer).await.error(),
        (400, "bad_request".into())
    );
    let raw = client().put(&url).body(wasm).send().await.unwrap();
    let raw = common::answer(raw).await;
    assert!(raw.message().contains("send a form"), "{}", raw.text);
}

#[tokio::test]
async fn a_deployed_component_supports_all_fields_of_the_manifest() {
    let state = common::state_dir();
    std::fs::write(state.path().join("greeting.txt"), "hello from a file").unwrap();
    let variables = format!("{MANIFEST}\n[variables]\ngreeting = {{ default = \"good day\" }}\n");
    let path = common::write_manifest(state.path(), &variables);
    let host = Host::with(state, &["-f", path.to_str().unwrap()]);
    let manifest = host.state.path().join("mine.toml");
    let text = format!(
        r#"
[[trigger.http]]
route = "/one/..."
component = "mine"
[[trigger.http]]
route = "/two/..."
component = "mine"
[component.mine]
source = "{}"
environment = {{ A = "1" }}
variables = {{ words = "{{{{ greeting }}}}" }}
files = ["greeting.txt"]
[component.mine.tool.whisper-host.limits]
request_body = "4B"
"#,
        component("probe-spin")
    );
    std::fs::write(&manifest, text).unwrap();
    let deploy = ["deploy", "--manifest", manifest.to_str().unwrap()];
    let said = run_ok(&host, &deploy).await;
    assert_eq!(said, "mine: revision 1 serves /one/..., /two/...\n");
    let host = Host::with(host.kill(), &["-f", path.to_str().unwrap()]);
    for route in ["/one", "/two"] {
        let said = host.get(&format!("{route}/spin-variable?words")).await.text;
        assert_eq!(said, "Ok(\"good day\")");
        let said = host.get(&format!("{route}/file?/greeting.txt")).await.text;
        assert_eq!(said, "hello from a file");
        let answer = host.post(&format!("{route}/spin-variable"), "12345").await;
        assert_eq!(answer.error(), (413, "body_too_large".into()));
    }
}

/// The format of the previous version.
#[tokio::test]
async fn a_record_of_the_first_version_is_migrated() {
    let state = common::state_dir();
    let wasm = std::fs::read(component("probe-wasi02")).unwrap();
    let digest = sha256(&wasm);
    let blobs = state.path().join("deployments/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(format!("{digest}.wasm")), &wasm).unwrap();
    let revision = |number: u32| {
        serde_json::json!({"revision": number, "digest": digest, "deployed": 1, "settings": {
            "route": "/mine/...", "environment": {"N": number.to_string()}, "allowed_outbound_hosts": [],
            "ai_models": [], "timeseries": false, "dependencies": {}, "health": null,
        }})
    };
    let record = serde_json::json!({"version": 1, "components": {
        "mine": {"current": 2, "revisions": [revision(1), revision(2)]},
    }});
    let file = state.path().join("deployments/components.json");
    std::fs::write(&file, record.to_string()).unwrap();
    let path = common::write_manifest(state.path(), MANIFEST);
    let host = Host::with(state, &["-f", path.to_str().unwrap()]);
    assert_eq!(host.get("/mine/environment").await.text, "N=2");
    run_ok(&host, &["rollback", "mine"]).await;
    assert_eq!(host.get("/mine/environment").await.text, "N=1");
    let file = host.state.path().join("deployments/components.json");
    let record: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(record["version"], 2);
    let revision = &record["components"]["mine"]["revisions"][0];
    assert_eq!(
        revision["manifest"],
        common::fragment(
            "mine",
            "/mine/...",
            serde_json::json!({"environment": {"N": "1"}})
        )
    );
}

#[tokio::test]
async fn a_page_served_by_the_admin_interface_may_use_it_without_a_token() {
    let host = probe();
    let url = format!("{}/v1/components", host.admin);
    let own = client().get(&url).header("origin", &host.admin);
    assert_eq!(own.send().await.unwrap().status(), 200);
    for other in [&host.url, "https://pages.example", "null"] {
        let page = client().get(&url).header("origin", other);
        assert_eq!(page.send().await.unwrap().status(), 403, "{other}");
    }
}

#[tokio::test]
async fn a_component_whose_content_length_is_too_large_is_refused_before_it_is_sent() {
    let host = Host::with_manifest(MANIFEST, &[]);
    let mut stream = TcpStream::connect(host.admin.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let head = "PUT /v1/components/x HTTP/1.1\r\nHost: localhost\r\n\
                Content-Length: 1000000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 512];
    let length = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("larger than 128 MiB"), "{answer}");
}

/// A section of a component.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let mut length = content.len();
    let mut section = vec![id];
    while length >= 0x80 {
        section.push(length as u8 | 0x80);
        length >>= 7;
    }
    section.push(length as u8);
    [&section, content].concat()
}

/// A component of a few hundred bytes with 2^26 instances: each of its components contains two of the next.
fn doubled() -> Vec<u8> {
    let mut inner = nested(&[]);
    for _ in 0..26 {
        let two_instances = [2, 0, 0, 0, 0, 0, 0];
        inner = nested(&[section(4, &inner), section(5, &two_instances)]);
    }
    // One instance of the component, and an empty one, which is exported.
    let instances = [2, 0, 0, 0, 1, 0];
    nested(&[section(4, &inner), section(5, &instances), handler(1)])
}

fn nested(sections: &[Vec<u8>]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0", &*sections.concat()].concat()
}

/// The export of an instance as a handler.
fn handler(instance: u8) -> Vec<u8> {
    let name = b"wasi:http/incoming-handler@0.2.0";
    let export = [&[1, 0, name.len() as u8], &name[..], &[5, instance, 0]].concat();
    section(11, &export)
}

/// A component with functions that take gigabytes to compile: each assigns 20,000 variables in 60,000 branches.
fn laborious() -> Vec<u8> {
    const FUNCTIONS: u8 = 8;
    const VARIABLES: usize = 20_000;
    let number = |number: usize| {
        let [low, middle] = [number & 0x7f | 0x80, number >> 7 & 0x7f | 0x80];
        [low as u8, middle as u8, (number >> 14) as u8]
    };
    let mut body = [&[1], &number(VARIABLES)[..], &[0x7f]].concat();
    for branch in 0..60_000 {
        // (if (local.get a) (then (local.set c (local.get b))))
        let [a, b, c] = [1, 7, 13].map(|factor| number(branch * factor % VARIABLES));
        body.push(0x20);
        body.extend(a);
        body.extend([0x04, 0x40, 0x20]);
        body.extend(b);
        body.push(0x21);
        body.extend(c);
        body.push(0x0b);
    }
    body.push(0x0b);
    // Like a section, but for the id: the length and the body.
    let function = section(0, &body)[1..].to_vec();
    let mut types = vec![FUNCTIONS];
    types.extend([0; FUNCTIONS as usize]);
    let code = [vec![FUNCTIONS], function.repeat(FUNCTIONS.into())].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 0]),
        section(3, &types),
        section(10, &code),
    ];
    nested(&[
        section(1, &module.concat()),
        section(2, &[1, 0, 0, 0]),
        section(4, &nested(&[])),
        section(5, &[1, 0, 0, 0]),
        handler(0),
    ])
}

#[test]
fn the_size_limit_includes_dependencies() {
    let state = state_dir();
    let mut audio = std::fs::read(component("audio")).unwrap();
    // A custom section without a name.
    let left = (128 << 20) - audio.len() - 16;
    audio.extend(section(0, &vec![0; left]));
    let path = state.path().join("large.wasm");
    std::fs::write(&path, audio).unwrap();
    let manifest = format!(
        r#"
spin_manifest_version = 2
application = {{ name = "large" }}
[[trigger.http]]
route = "/words"
component = "words"
[component.words]
source = "{{components}}/word-count.wasm"
ai_models = ["whisper"]
[component.words.dependencies]
"speech:pipeline/features" = {{ path = "{}" }}
"#,
        path.display()
    );
    let said = common::refused(state.path(), &manifest);
    assert!(
        said.contains("more than 128 MiB with its dependencies"),
        "{said}"
    );
}

#[tokio::test]
async fn a_component_that_exceeds_the_compile_limits_is_refused() {
    let host = probe();
    for (component, message) in [
        (laborious(), "more than the 4 GiB of memory"),
        (doubled(), "more than 30 component instances"),
    ] {
        let path = host.state.path().join("x.wasm");
        std::fs::write(&path, component).unwrap();
        let path = path.to_str().unwrap();
        let said = run_refused(&host, &["deploy", path, "--id", "x", "--route", "/x"]).await;
        assert!(said.contains(message), "{said}");
    }
    assert_eq!(host.get("/given/hello").await.text, "hello");
}

#[tokio::test]
async fn an_abandoned_deployment_is_not_compiled_any_further() {
    let host = probe();
    let compiling = async |expected| {
        let id = host.id().to_string();
        let found = common::eventually(async || {
            let found = std::process::Command::new("pgrep")
                .args(["-P", &id])
                .output();
            let found = found.unwrap();
            let compiler = String::from_utf8(found.stdout).unwrap();
            (found.status.success() == expected).then_some(compiler)
        });
        found.await
    };
    let url = format!("{}/v1/components/x", host.admin);
    let manifest = common::fragment("x", "/x", serde_json::json!({}));
    let form = common::deployment(&manifest, laborious());
    let deployment = tokio::spawn(client().put(url).multipart(form).send());
    let compiler = compiling(true).await;
    // The compiler must not see the host's tokens and variables.
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", compiler.trim()));
    if let Ok(environment) = environment {
        let names = environment.split_terminator('\0');
        let names: Vec<&str> = names.map(|pair| pair.split('=').next().unwrap()).collect();
        assert_eq!(names, ["RAYON_NUM_THREADS", "RUST_BACKTRACE"]);
    }
    deployment.abort();
    compiling(false).await;
    let blobs = host.state.path().join("deployments/blobs");
    common::eventually(async || {
        let left = std::fs::read_dir(&blobs).unwrap().count();
        (left == 0).then_some(())
    })
    .await;
    let log = host.log();
    let ended = "the compiler was killed";
    assert!(log.iter().all(|line| line["message"] != ended), "{log:?}");
}

#[tokio::test]
async fn an_invalid_environment_variable_is_refused() {
    let host = Host::with_manifest(MANIFEST, &[]);
    let wasm = std::fs::read(component("probe-wasi02")).unwrap();
    for (name, value) in [("A\0B", "1"), ("A", "1\0"), ("", "1")] {
        let environment = serde_json::json!({"environment": {name: value}});
        let manifest = common::fragment("x", "/x", environment);
        let answer = common::deploy(&host.admin, "x", &manifest, &wasm).await;
        let answer = answer.unwrap();
        assert_eq!(answer.error(), (422, "refused".into()), "{name:?}");
        assert!(answer.message().contains("NUL"), "{}", answer.text);
    }
}

#[tokio::test]
async fn without_a_token_web_pages_cannot_use_the_admin_interface() {
    let host = probe();
    let url = format!("{}/v1/components", host.admin);
    for (name, value) in [
        ("origin", "https://pages.example"),
        ("host", "pages.example:8001"),
    ] {
        let request = client().get(&url).header(name, value);
        let answer = common::answer(request.send().await.unwrap()).await;
        assert_eq!(answer.status, 403, "{name}: {}", answer.text);
        assert!(answer.text.contains("WHISPER_HOST_ADMIN_TOKEN"));
    }
    let port = host.admin.rsplit(':').next().unwrap();
    let local = client()
        .get(&url)
        .header("host", format!("localhost:{port}"));
    assert_eq!(local.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_admin_interface_needs_its_token_and_beyond_loopback_must_have_one() {
    let host = Host::with_manifest(MANIFEST, &["--admin-token", "open sesame"]);
    assert!(
        run_refused(&host, &["list"])
            .await
            .contains("send the admin token")
    );
    assert!(
        run_refused(&host, &["list", "--admin-token", "please"])
            .await
            .contains("the token is wrong")
    );
    run_ok(&host, &["list", "--admin-token", "open sesame"]).await;
    // The scheme is case-insensitive (RFC 9110, 11.1).
    let components = format!("{}/v1/components", host.admin);
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let request = client().get(&components);
        let request = request.header("authorization", format!("{scheme} open sesame"));
        assert_eq!(request.send().await.unwrap().status(), 200, "{scheme}");
    }
    // The public listener does not serve it.
    assert_eq!(host.get("/v1/components").await.status, 404);

    let state = state_dir();
    let output = whisper_host()
        .args([
            "up",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "0.0.0.0:0",
            "--state-dir",
        ])
        .arg(state.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("WHISPER_HOST_ADMIN_TOKEN"), "{said}");
}

#[test]
fn an_unreachable_host_is_named() {
    let output = whisper_host()
        .args(["list", "--admin", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("error: cannot reach a host at http://127.0.0.1:1"),
        "{said}"
    );
}
