//! Spin features of a handler: variables, files, and request headers.

mod common;

use common::{Host, client, root, state_dir, whisper_host, write_manifest};

const MANIFEST: &str = r#"
spin_manifest_version = 2
application = { name = "spin" }

[variables]
host = { default = "example.com" }
token = { required = true, secret = true }
pin = { default = "1234-is-secret", secret = true }

[[trigger.http]]
route = "/users/:user_id/..."
component = "probe"

[[trigger.http]]
route = "/plain"
component = { source = "{components}/probe-wasi02.wasm" }

[[trigger.http]]
route = { private = true }
component = "hidden"

[component.probe]
source = "{components}/probe-spin.wasm"
files = ["site/**/*", { source = "top.txt", destination = "/etc/other" }]
exclude_files = ["**/*.key"]

[component.probe.variables]
url = "https://{{ host }}/api"
authorization = "Bearer {{ token }}"
pin = "{{ pin }}"

[component.hidden]
source = "{components}/probe-wasi02.wasm"

[[trigger.http]]
route = "/two/..."
component = "two"

[component.two]
source = "{components}/probe-wasi02.wasm"
files = ["site/**/*"]

[[trigger.http]]
route = "/three/..."
component = "three"

[component.three]
source = "{components}/probe-wasi03.wasm"
files = ["site/**/*", "top.txt"]
"#;

const TOKEN: &str = "hunter2-from-the-environment";

fn start() -> Host {
    let state = state_dir();
    let site = state.path().join("site/below");
    std::fs::create_dir_all(&site).unwrap();
    std::fs::write(site.join("page.txt"), "a page").unwrap();
    std::fs::write(site.join("page.key"), "a key").unwrap();
    std::fs::write(state.path().join("top.txt"), "the top").unwrap();
    let manifest = write_manifest(state.path(), MANIFEST);
    Host::with_environment(
        state,
        &["-f", manifest.to_str().unwrap(), "--log", "trace"],
        &[("SPIN_VARIABLE_TOKEN", TOKEN)],
    )
}

#[tokio::test]
async fn a_component_reads_its_own_variables_and_no_others() {
    let host = start();
    let get = async |path: &str| host.get(&format!("/users/1/{path}")).await.text;
    assert_eq!(
        get("spin-variable?url").await,
        "Ok(\"https://example.com/api\")"
    );
    let authorization = format!("Bearer {TOKEN}");
    assert_eq!(
        get("spin-variable?authorization").await,
        format!("Ok({authorization:?})")
    );
    assert_eq!(
        get("variable?authorization").await,
        format!("Ok(Some({authorization:?}))")
    );
    assert_eq!(get("variable?token").await, "Ok(None)");
    assert!(
        get("spin-variable?token")
            .await
            .starts_with("Err(Error::Undefined")
    );
    assert!(
        get("spin-variable?Not-a-name")
            .await
            .starts_with("Err(Error::InvalidName")
    );
    let all = get("variables").await;
    for name in ["authorization", "pin", "url"] {
        assert!(all.contains(name), "{all}");
    }
}

#[tokio::test]
async fn an_instance_opens_a_limited_number_of_files() {
    let host = start();
    let opened = host.get("/two/open-files?site/below/page.txt").await.text;
    // The folders on the way are closed again, but the toolchain keeps one open.
    assert!(opened.starts_with("64 files, then "), "{opened}");
    // A stream counts as another one.
    let opened = host.get("/three/open-files?top.txt").await.text;
    assert_eq!(opened, "32 files, then ErrorCode::Quota");
    let cancelled = host.get("/three/cancel-opens?top.txt").await.text;
    assert_eq!(cancelled, "64 files, then ErrorCode::Quota");
    let streams = host.get("/three/read-streams?top.txt").await.text;
    assert_eq!(
        streams,
        "\"the top\", Ok(()); then \"\", Err(ErrorCode::Quota)"
    );
    let streams = host.get("/two/read-streams?site/below/page.txt").await.text;
    assert_eq!(streams, "63 streams of {\"a page\"}, then quota (error 6)");
    let listings = host.get("/two/list-folders").await.text;
    assert_eq!(listings, "64 listings, then quota (error 6); true");
    // A folder counts until its entries are read. Without limit, each would keep a file and a thread of the host.
    let folders = host.get("/three/open-folders").await.text;
    assert_eq!(
        folders,
        "site: DescriptorType::Directory, top.txt: DescriptorType::RegularFile, Ok(()); then 0 entries, Err(ErrorCode::Quota)"
    );
}

#[tokio::test]
async fn an_instance_may_call_many_functions_of_files_at_once() {
    let host = start();
    let metadata = host.get("/three/metadata?top.txt").await.text;
    assert_eq!(
        metadata,
        "[Ok(\"DescriptorType::RegularFile, DescriptorFlags(READ), 7 and 7 bytes, true, false, true; Err(ErrorCode::Invalid)\")]"
    );
}

#[tokio::test]
async fn secrets_do_not_appear_in_logs_or_reports() {
    let host = start();
    host.get("/users/1/variables").await;
    let log = std::fs::read_to_string(host.state.path().join("log")).unwrap();
    for secret in [TOKEN, "1234-is-secret"] {
        assert!(!log.contains(secret), "in the log");
        assert!(!host.start_up.contains(secret), "in what start-up prints");
    }
    for arguments in [&["check"][..], &["check", "--json"]] {
        let output = whisper_host()
            .args(arguments)
            .arg("-f")
            .arg(host.state.path().join("spin.toml"))
            .arg("--state-dir")
            .arg(host.state.path())
            .args(["--log", "trace"])
            .env("SPIN_VARIABLE_TOKEN", TOKEN)
            .output()
            .unwrap();
        assert!(output.status.success());
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains("variables authorization, pin, url"), "{said}");
        for secret in [TOKEN, "1234-is-secret"] {
            assert!(!said.contains(secret), "{arguments:?}");
        }
    }
}

#[tokio::test]
async fn a_component_can_read_but_not_change_its_files() {
    let host = start();
    let get = async |path: &str| host.get(&format!("/users/1/{path}")).await.text;
    assert_eq!(get("file?/site/below/page.txt").await, "a page");
    assert_eq!(get("file?/etc/other").await, "the top");
    for path in [
        "/site/below/page.key",
        "/top.txt",
        "/spin.toml",
        "/etc/passwd",
        "/../spin.toml",
        "/site/../../log",
    ] {
        let text = get(&format!("file?{path}")).await;
        assert!(text.contains("os error"), "{path}: {text}");
    }
    for path in ["/site/below/page.txt", "/new.txt"] {
        let text = get(&format!("write?{path}")).await;
        assert!(text.starts_with("Err"), "{path}: {text}");
    }
    assert_eq!(get("file?/site/below/page.txt").await, "a page");
}

#[tokio::test]
async fn a_handler_is_told_how_its_request_was_routed_and_a_client_cannot_forge_it() {
    let host = start();
    let text = client()
        .get(format!("{}/users/42/a/b?c=d", host.url))
        .header("spin-client-addr", "127.0.0.1:1")
        .header("spin-path-match-admin", "yes")
        .header("Spin-Anything", "else")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let client = lines.remove(1);
    assert!(client.starts_with("spin-client-addr: 127.0.0.1:"), "{text}");
    assert_ne!(client, "spin-client-addr: 127.0.0.1:1");
    let url = format!("spin-full-url: {}/users/42/a/b?c=d", host.url);
    assert_eq!(
        lines,
        [
            "spin-base-path: /",
            "spin-component-route: /users/:user_id",
            &url,
            "spin-matched-route: /users/:user_id/...",
            "spin-path-info: /a/b",
            "spin-path-match-user-id: 42",
            "spin-raw-component-route: /users/:user_id/...",
        ]
    );
}

#[tokio::test]
async fn a_trigger_may_define_its_component_inline_and_a_private_route_gets_no_requests() {
    let host = start();
    assert_eq!(host.get("/plain").await.status, 200);
    assert_eq!(host.get("/hidden").await.status, 404);
    assert!(!host.start_up.contains("hidden"), "{}", host.start_up);
}

#[test]
fn the_schema_allows_every_field_of_the_examples_and_no_others() {
    let output = whisper_host().arg("schema").output().unwrap();
    assert!(output.status.success());
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let component = &schema["$defs"]["Component"];
    assert_eq!(component["additionalProperties"], false);
    for name in ["valid-everything", "valid-spin"] {
        let path = root().join(format!("test/manifests/{name}.toml"));
        let manifest: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
        for field in manifest.keys() {
            assert!(schema["properties"].get(field).is_some(), "{field}");
        }
        for (id, fields) in manifest["component"].as_table().unwrap() {
            for field in fields.as_table().unwrap().keys() {
                assert!(
                    component["properties"].get(field).is_some(),
                    "{id}: {field}"
                );
            }
        }
    }
}
