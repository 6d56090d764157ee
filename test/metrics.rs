//! The host's metrics, read as Prometheus does.

mod common;

#[path = "common/nats.rs"]
mod nats;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use common::{Host, client, eventually, free_address, recording, root, server_program, state_dir};
use nats::Nats;
use serde_json::Value;

async fn scrape(host: &Host) -> String {
    let url = format!("{}/metrics", host.admin);
    let response = client().get(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let content_type = response.headers()["content-type"].to_str().unwrap();
    assert_eq!(content_type, "text/plain; version=0.0.4");
    response.text().await.unwrap()
}

/// The value of a series.
fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

#[tokio::test]
async fn each_request_transcription_and_invocation_is_counted() {
    let host = Host::start();
    for _ in 0..2 {
        host.post("/analyze", recording("garden.flac")).await;
    }
    host.post("/analyze", b"garbage".to_vec()).await;
    host.get("/stats").await;
    host.get("/nowhere").await;
    // Clients choose methods and paths; they must not choose series.
    for method in ["BREW", "BREW-2"] {
        let request = client().request(method.parse().unwrap(), format!("{}/stats", host.url));
        assert_eq!(request.send().await.unwrap().status(), 405);
    }
    let metrics = scrape(&host).await;
    let requests = |labels: &str| {
        let series = format!("http_server_request_duration_seconds_count{{{labels}}}");
        value(&metrics, &series)
    };
    for (method, route, component, status, count) in [
        ("POST", "/analyze", "analyze", "200", 2.0),
        ("POST", "/analyze", "analyze", "415", 1.0),
        ("GET", "/stats", "stats", "200", 1.0),
        ("_OTHER", "/stats", "stats", "405", 2.0),
    ] {
        let labels = format!(
            r#"http_request_method="{method}",http_route="{route}",component="{component}",http_response_status_code="{status}""#
        );
        assert_eq!(requests(&labels), Some(count), "{labels}\n{metrics}");
    }
    let unmatched = r#"http_request_method="GET",http_response_status_code="404""#;
    assert_eq!(requests(unmatched), Some(1.0), "{metrics}");
    for (series, count) in [
        (
            r#"whisper_host_invocations_total{component="analyze"}"#,
            3.0,
        ),
        (r#"whisper_host_invocations_total{component="stats"}"#, 3.0),
        (r#"whisper_host_invocations_active{component="stats"}"#, 0.0),
        (
            r#"whisper_host_audio_duration_seconds_count{model="whisper"}"#,
            2.0,
        ),
        (
            r#"whisper_host_transcription_duration_seconds_count{model="whisper"}"#,
            2.0,
        ),
        (
            r#"whisper_host_transcription_real_time_ratio_count{model="whisper"}"#,
            2.0,
        ),
        ("http_server_active_requests", 0.0),
    ] {
        assert_eq!(value(&metrics, series), Some(count), "{series}\n{metrics}");
    }
    let seconds = value(
        &metrics,
        r#"whisper_host_audio_duration_seconds_sum{model="whisper"}"#,
    );
    // The length that test/audio/README.md states, twice.
    assert!((seconds.unwrap() - 2.0 * 5.7).abs() < 0.2, "{seconds:?}");
    let windows = value(&metrics, r#"whisper_host_windows_total{model="whisper"}"#);
    let batched = value(
        &metrics,
        r#"whisper_host_batch_windows_sum{model="whisper"}"#,
    );
    assert_eq!(windows, batched);
    assert!(value(&metrics, "process_resident_memory_bytes").unwrap() > 1e6);
}

#[tokio::test]
async fn a_component_that_lets_clients_choose_the_status_has_a_limited_number_of_series() {
    let manifest = r#"
        spin_manifest_version = 2
        application = { name = "probe" }
        [[trigger.http]]
        route = "/..."
        component = "probe"
        [component.probe]
        source = "{components}/probe-wasi02.wasm"
        [component.probe.tool.whisper-host.limits]
        instance_reuse = 1000
    "#;
    let host = Host::with_manifest(manifest, &[]);
    for status in 400..550 {
        host.get(&format!("/status?{status}")).await;
    }
    let metrics = scrape(&host).await;
    let count = "http_server_request_duration_seconds_count{";
    let series = metrics.lines().filter(|line| line.starts_with(count));
    assert_eq!(series.count(), 101);
    let others = r#"http_request_method="_OTHER",http_route="/...",component="probe",http_response_status_code="_OTHER""#;
    assert_eq!(value(&metrics, &format!("{count}{others}}}")), Some(50.0));
}

#[tokio::test]
async fn running_and_idle_instances_are_counted() {
    let manifest = r#"
        spin_manifest_version = 2
        application = { name = "probe" }
        [[trigger.http]]
        route = "/fresh/..."
        component = "fresh"
        [component.fresh]
        source = "{components}/probe-wasi02.wasm"
        [[trigger.http]]
        route = "/reused/..."
        component = "reused"
        [component.reused]
        source = "{components}/probe-wasi02.wasm"
        [component.reused.tool.whisper-host.limits]
        instance_reuse = 10
        instance_idle = "1h"
    "#;
    let host = Host::with_manifest(manifest, &[]);
    assert_eq!(host.get("/fresh/hello").await.text, "hello");
    assert_eq!(host.get("/reused/hello").await.text, "hello");
    eventually(async || {
        let metrics = scrape(&host).await;
        let instances = |id| {
            value(
                &metrics,
                &format!("whisper_host_instances{{component=\"{id}\"}}"),
            )
        };
        (instances("fresh") == Some(0.0) && instances("reused") == Some(1.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn prometheus_own_linter_has_no_complaints() {
    let Some(promtool) = server_program("promtool") else {
        return;
    };
    let host = Host::start();
    host.post("/analyze", recording("garden.flac")).await;
    let metrics = scrape(&host).await;
    let mut promtool = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(metrics.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{said}\n{metrics}"
    );
}

fn promtool(arguments: &[&str]) -> Option<()> {
    let mut promtool = Command::new(server_program("promtool")?);
    let output = promtool
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(())
}

#[test]
fn the_alerts_are_valid_and_fire_when_they_should() {
    if promtool(&["check", "rules", "docs/alerts.yml"]).is_some() {
        promtool(&["test", "rules", "docs/alerts_test.yml"]);
    }
}

/// The names of metrics in a text, without the endings of histograms.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_name(c));
    words
        .filter(|word| {
            let mut prefixes = ["whisper_host_", "http_server_", "process_"].iter();
            prefixes.any(|prefix| word.starts_with(prefix))
        })
        .map(|name| {
            let mut endings = ["_bucket", "_sum", "_count"].iter();
            endings
                .find_map(|ending| name.strip_suffix(ending))
                .unwrap_or(name)
        })
        .collect()
}

#[tokio::test]
async fn the_alerts_and_the_dashboard_name_metrics_that_exist() {
    let Some(nats) = Nats::start().await else {
        return;
    };
    // NATS and InfluxDB, which is not there, have metrics of their own.
    let influxdb = "influxdb://127.0.0.1:1?org=a&bucket=b";
    let host = Host::with_environment(
        state_dir(),
        &["--stats-store", influxdb, "--nats", &nats.url()],
        &[("INFLUX_TOKEN", "token")],
    );
    host.post("/analyze", recording("garden.flac")).await;
    // Hosts with NATS and SQLite share their calls.
    let sharing = Host::with(state_dir(), &["--nats", &nats.url()]);
    let metrics = scrape(&host).await + &scrape(&sharing).await;
    let types = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let existing: BTreeSet<&str> = types.map(|line| line.split_once(' ').unwrap().0).collect();
    for file in ["docs/alerts.yml", "docs/dashboards/whisper-host.json"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let used = metrics_in(&text);
        assert!(used.len() > 5, "{file}");
        let unknown: Vec<_> = used.difference(&existing).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
    let dashboard = std::fs::read_to_string(root().join("docs/dashboards/whisper-host.json"));
    let dashboard: Value = serde_json::from_str(&dashboard.unwrap()).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
    }
    // What is documented exists, too.
    let documented = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let unknown: Vec<&str> = metrics_in(&documented)
        .into_iter()
        .filter(|name| !existing.contains(name) && *name != "process_")
        .collect();
    assert!(unknown.is_empty(), "docs/operations.md: {unknown:?}");
}

#[tokio::test]
async fn a_prometheus_server_scrapes_the_host() {
    let Some(prometheus) = server_program("prometheus") else {
        return;
    };
    let host = Host::start();
    host.get("/stats").await;
    let target = host.admin.strip_prefix("http://").unwrap();
    let config = host.state.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: whisper-host\n  static_configs:\n  - targets: ['{target}']\n"
    );
    std::fs::write(&config, text).unwrap();
    let address = free_address();
    let mut prometheus = Command::new(prometheus)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            host.state.path().join("tsdb").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .arg("--log.level=error")
        .spawn()
        .unwrap();
    let query = r#"http_server_request_duration_seconds_count{http_route="/stats"}"#;
    let found = eventually(async || {
        let url = format!("http://{address}/api/v1/query");
        let answer = client()
            .get(url)
            .query(&[("query", query)])
            .send()
            .await
            .ok()?;
        let answer: Value = answer.json().await.ok()?;
        answer["data"]["result"][0]["value"][1]
            .as_str()
            .map(str::to_owned)
    })
    .await;
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
    assert_eq!(found, "1");
}
