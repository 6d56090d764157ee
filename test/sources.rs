//! Remote components, with a real registry; and reloading of applications.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{
    Host, client, component, eventually, free_address, root, server_program, state_dir,
    whisper_host, write_manifest,
};
use futures::StreamExt as _;
use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A registry process on loopback. Dropping it kills the process.
struct Registry {
    process: Child,
    address: String,
    storage: TempDir,
}

/// Name and password of the registry with authentication, as written by `htpasswd -B`.
const HTPASSWD: &str = "tester:$2b$04$S91lM.avq3xO/POoo8KGHuUbBxPtVEV23HPLhnLmgla.XxaIBeXLu";
/// The same for Docker's configuration: base64 of `tester:open sesame`.
const BASIC: &str = "dGVzdGVyOm9wZW4gc2VzYW1l";

impl Registry {
    /// `None` if no registry is installed; prints a message.
    async fn start(with_password: bool) -> Option<Self> {
        let program = server_program("docker-registry")?;
        let storage = tempfile::tempdir().unwrap();
        Some(Self::run(program, free_address(), storage, with_password).await)
    }

    async fn run(program: PathBuf, address: String, storage: TempDir, password: bool) -> Self {
        let folder = storage.path();
        std::fs::write(folder.join("htpasswd"), HTPASSWD).unwrap();
        let auth = format!(
            "auth: {{ htpasswd: {{ realm: test, path: {}/htpasswd }} }}\n",
            folder.display()
        );
        let configuration = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {}/data }} }}\nhttp: {{ addr: {address} }}\n{}",
            folder.display(),
            if password { &auth } else { "" }
        );
        let path = folder.join("config.yml");
        std::fs::write(&path, configuration).unwrap();
        let process = Command::new(program)
            .arg("serve")
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("http://{address}/v2/");
        eventually(async || client().get(&url).send().await.ok()).await;
        Self {
            process,
            address,
            storage,
        }
    }

    /// `oci://…` reference for a name with a tag or digest.
    fn reference(&self, name: &str) -> String {
        format!("oci://{}/{name}", self.address)
    }

    /// Stops it; its data is kept.
    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs `whisper-host push`, with Docker's configuration in `docker`.
fn push(file: &str, reference: &str, docker: &Path) -> Result<Value, String> {
    let output = whisper_host()
        .args(["push", file, reference, "--json"])
        .env("DOCKER_CONFIG", docker)
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

fn pushed(file: &str, reference: &str) -> Value {
    push(file, reference, Path::new("/nonexistent")).unwrap()
}

/// A manifest with one component, served at `/...`.
fn manifest(source: &str) -> String {
    format!(
        "spin_manifest_version = 2\napplication = {{ name = \"sources\" }}\n\
         [[trigger.http]]\nroute = \"/...\"\ncomponent = \"it\"\n[component.it]\nsource = {source}\n"
    )
}

fn start(state: TempDir, source: &str) -> Host {
    let path = write_manifest(state.path(), &manifest(source));
    Host::with(state, &["-f", path.to_str().unwrap()])
}

/// The error of `check` for a manifest that it refuses.
fn refused(state: &Path, source: &str) -> String {
    common::refused(state, &manifest(source))
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let digits: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{digits}")
}

#[tokio::test]
async fn a_pushed_component_has_the_format_that_other_tools_expect() {
    let Some(registry) = Registry::start(false).await else {
        return;
    };
    let wasm = std::fs::read(component("word-count")).unwrap();
    let said = pushed(
        &component("word-count"),
        &registry.reference("word-count:1.0.0"),
    );
    assert_eq!(said["digest"], sha256(&wasm));

    let base = format!("http://{}/v2/word-count", registry.address);
    let get = async |path: String, accept: &str| {
        let request = client()
            .get(format!("{base}/{path}"))
            .header("accept", accept);
        request.send().await.unwrap().bytes().await.unwrap()
    };
    let bytes = get(
        "manifests/1.0.0".into(),
        "application/vnd.oci.image.manifest.v1+json",
    )
    .await;
    assert_eq!(
        said["pinned"],
        format!("{}@{}", registry.reference("word-count"), sha256(&bytes))
    );
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(manifest["schemaVersion"], 2);
    assert_eq!(
        manifest["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.wasm.config.v0+json"
    );
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(manifest["layers"][0]["digest"], sha256(&wasm));
    assert_eq!(manifest["layers"][0]["size"], wasm.len());

    let digest = manifest["config"]["digest"].as_str().unwrap();
    let configuration: Value =
        serde_json::from_slice(&get(format!("blobs/{digest}"), "*/*").await).unwrap();
    assert_eq!(configuration["architecture"], "wasm");
    assert_eq!(configuration["os"], "wasip2");
    assert_eq!(
        configuration["layerDigests"],
        serde_json::json!([sha256(&wasm)])
    );
    let exports = &configuration["component"]["exports"];
    assert_eq!(
        exports,
        &serde_json::json!(["wasi:http/incoming-handler@0.2.12"])
    );
    let imports = configuration["component"]["imports"].as_array().unwrap();
    assert!(
        imports.contains(&"speech:pipeline/inference@0.1.0".into()),
        "{imports:?}"
    );
    assert_eq!(get(format!("blobs/{}", sha256(&wasm)), "*/*").await, wasm);
}

#[tokio::test]
async fn a_tag_is_resolved_each_time_and_the_last_digest_is_used_without_the_registry() {
    let Some(mut registry) = Registry::start(false).await else {
        return;
    };
    let tag = registry.reference("hello:latest");
    pushed(&component("probe-wasi02"), &tag);
    let host = start(state_dir(), &format!("\"{tag}\""));
    assert_eq!(host.get("/hello").await.text, "hello");

    // The tag moves: the new component is served after a reload, not before.
    pushed(&component("probe-wasi03"), &tag);
    assert_eq!(host.get("/hello").await.text, "hello");
    host.signal(Signal::HUP);
    eventually(async || (host.get("/hello").await.text == "hello from 0.3").then_some(())).await;

    registry.stop();
    let state = host.kill();
    let host = start(state, &format!("\"{tag}\""));
    assert_eq!(host.get("/hello").await.text, "hello from 0.3");
    let warned = host
        .wait_for_log(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.contains("cannot resolve oci://")
        })
        .await;
    assert_eq!(warned["level"], "WARN");
    // Without a previously resolved digest there is nothing to serve.
    let said = refused(state_dir().path(), &format!("\"{tag}\""));
    assert!(said.contains("cannot fetch oci://"), "{said}");
    assert!(said.contains("the registry cannot be reached"), "{said}");
}

#[tokio::test]
async fn a_component_named_by_digest_or_version_is_downloaded_once() {
    let Some(mut registry) = Registry::start(false).await else {
        return;
    };
    let said = pushed(
        &component("probe-wasi02"),
        &registry.reference("team/hello:1.2.3"),
    );
    let package = format!(
        "{{ registry = \"{}\", package = \"team:hello\", version = \"1.2.3\" }}",
        registry.address
    );
    let sources = [said["pinned"].to_string(), package];
    let mut states = Vec::new();
    for source in &sources {
        let host = start(state_dir(), source);
        assert_eq!(host.get("/hello").await.text, "hello", "{source}");
        states.push(host.kill());
    }
    registry.stop();
    for (source, state) in sources.iter().zip(states) {
        let host = start(state, source);
        assert_eq!(host.get("/hello").await.text, "hello", "{source}");
        let warnings: Vec<_> = host
            .log()
            .into_iter()
            .filter(|line| line["level"] == "WARN")
            .collect();
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_may_refer_to_another_registry() {
    let Some(registry) = Registry::start(false).await else {
        return;
    };
    pushed(
        &component("probe-wasi02"),
        &registry.reference("public/team/hello:1.2.3"),
    );
    for description in [
        serde_json::json!({"preferredProtocol": "oci", "oci": {"registry": registry.address, "namespacePrefix": "public/"}}),
        serde_json::json!({"ociRegistry": registry.address, "ociNamespacePrefix": "public/"}),
    ] {
        let path = "/.well-known/wasm-pkg/registry.json";
        let server = web_server(vec![(path, description.to_string().into_bytes())]).await;
        let address = server.strip_prefix("http://").unwrap();
        let package = format!(
            "{{ registry = \"{address}\", package = \"team:hello\", version = \"1.2.3\" }}"
        );
        let host = start(state_dir(), &package);
        assert_eq!(host.get("/hello").await.text, "hello", "{description}");
    }
}

#[tokio::test]
async fn a_component_is_deployed_directly_from_a_registry() {
    let Some(registry) = Registry::start(false).await else {
        return;
    };
    let reference = registry.reference("team/hello:1.2.3");
    pushed(&component("probe-wasi02"), &reference);
    let host = start(state_dir(), &format!("\"{}\"", component("probe-wasi03")));
    let mut command = whisper_host();
    command.args([
        "deploy",
        &reference,
        "--route",
        "/mine/...",
        "--admin",
        &host.admin,
    ]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("hello: revision 1 serves /mine/..."),
        "{said}"
    );
    assert_eq!(host.get("/mine/hello").await.text, "hello");
}

#[tokio::test]
async fn a_registry_with_authentication_gets_the_credentials_of_docker_login() {
    let Some(registry) = Registry::start(true).await else {
        return;
    };
    let docker = tempfile::tempdir().unwrap();
    let (file, reference) = (component("probe-wasi02"), registry.reference("hello:1"));
    let said = push(&file, &reference, docker.path()).unwrap_err();
    assert!(said.contains("use `docker login`"), "{said}");
    let login = serde_json::json!({"auths": {&registry.address: {"auth": BASIC}}});
    std::fs::write(docker.path().join("config.json"), login.to_string()).unwrap();
    push(&file, &reference, docker.path()).unwrap();
    assert!(registry.storage.path().join("data").exists());
}

#[tokio::test]
async fn a_file_that_is_not_a_component_is_neither_pushed_nor_served() {
    let Some(registry) = Registry::start(false).await else {
        return;
    };
    let reference = registry.reference("hello:1");
    let docker = Path::new("/nonexistent");
    let said = push("test/manifests/core-module.wasm", &reference, docker).unwrap_err();
    assert!(said.contains("core WebAssembly module"), "{said}");
    let said = push(&component("probe-wasi02"), "hello:1", docker).unwrap_err();
    assert!(said.contains("the registry is missing"), "{said}");
    let said = refused(state_dir().path(), &format!("\"{reference}\""));
    assert!(said.contains("the registry has no such artifact"), "{said}");
}

/// Response of a server.
enum Answer {
    Found(Vec<u8>),
    NotFound,
    /// With a header, including its line end.
    Unauthorized(String),
    TooManyRequests,
    Forbidden,
    /// To this address.
    Redirect(String),
    Endless,
    /// A byte every second.
    Dripping,
}

/// Serves HTTP on loopback: `answer` receives the address, and the request line with the headers.
async fn http_server(answer: impl Fn(&str, &str) -> Answer + Send + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let of = address.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let answer = answer(&address, &String::from_utf8_lossy(&request[..length]));
            let location = match &answer {
                Answer::Redirect(address) => format!("Location: {address}\r\n"),
                _ => String::new(),
            };
            let (status, header, body) = match &answer {
                Answer::Found(body) => ("200 OK", "", &body[..]),
                Answer::NotFound => ("404 Not Found", "", &b""[..]),
                Answer::Unauthorized(header) => ("401 Unauthorized", &**header, &b""[..]),
                Answer::TooManyRequests => ("429 Too Many Requests", "", &b""[..]),
                Answer::Forbidden => ("403 Forbidden", "", &b""[..]),
                Answer::Redirect(_) => ("307 Temporary Redirect", &*location, &b""[..]),
                Answer::Endless => ("200 OK", "", &[b' '; 1 << 16][..]),
                Answer::Dripping => ("200 OK", "", &b" "[..]),
            };
            let length = match answer {
                Answer::Endless | Answer::Dripping => String::new(),
                _ => format!("Content-Length: {}\r\n", body.len()),
            };
            let head = format!("HTTP/1.1 {status}\r\n{header}{length}Connection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            while stream.write_all(body).await.is_ok() {
                match answer {
                    Answer::Endless => {}
                    Answer::Dripping => tokio::time::sleep(Duration::from_secs(1)).await,
                    _ => break,
                }
            }
        }
    });
    of
}

/// The path of a request, with query.
fn path_of(request: &str) -> &str {
    request.split(' ').nth(1).unwrap_or_default()
}

/// Serves `files` over HTTP on loopback.
async fn web_server(files: Vec<(&'static str, Vec<u8>)>) -> String {
    let answer = move |_: &str, request: &str| {
        let mut files = files.iter();
        match files.find(|(name, _)| *name == path_of(request)) {
            Some((_, bytes)) => Answer::Found(bytes.clone()),
            None => Answer::NotFound,
        }
    };
    http_server(answer).await
}

/// The OCI manifest of an artifact with one layer.
fn oci_manifest(wasm: &[u8]) -> Vec<u8> {
    let described = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": kind, "digest": sha256(bytes), "size": bytes.len()});
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("application/vnd.wasm.config.v0+json", b"{}"),
        "layers": [described("application/wasm", wasm)],
    });
    manifest.to_string().into_bytes()
}

#[tokio::test]
async fn endless_responses_are_bounded() {
    let server = http_server(|address, request| match path_of(request) {
        "/v2/team/token/manifests/1" => Answer::Unauthorized(format!(
            "WWW-Authenticate: Bearer realm=\"{address}/endless\"\r\n"
        )),
        "/v2/team/layer/manifests/1" | "/v2/team/slow/manifests/1" => {
            Answer::Found(oci_manifest(b""))
        }
        path if path.starts_with("/v2/team/slow/blobs/") => Answer::Unauthorized(format!(
            "WWW-Authenticate: Bearer realm=\"{address}/dripping\"\r\n"
        )),
        path if path.starts_with("/dripping") => Answer::Dripping,
        _ => Answer::Endless,
    });
    let server = server.await;
    let address = server.strip_prefix("http://").unwrap();
    let package = format!("{{ registry = \"{address}\", package = \"a:b\", version = \"1.0.0\" }}");
    for (source, most) in [
        (package, "registry.json has more than 64 KiB"),
        (
            format!("\"oci://{address}/team/manifest:1\""),
            "manifests/1 has more than 4096 KiB",
        ),
        (
            format!("\"oci://{address}/team/token:1\""),
            "/endless has more than 64 KiB",
        ),
        (
            format!("\"oci://{address}/team/layer:1\""),
            "larger than the 128 MiB",
        ),
        (
            format!("\"oci://{address}/team/slow:1\""),
            "the registry did not answer within 30s",
        ),
    ] {
        let said = tokio::task::spawn_blocking(move || refused(state_dir().path(), &source));
        let said = said.await.unwrap();
        assert!(said.contains(most), "{said}");
    }
}

#[tokio::test]
async fn credentials_are_sent_only_to_the_original_server() {
    let wasm = std::fs::read(component("probe-wasi02")).unwrap();
    let digest = sha256(&wasm);
    let storage = http_server(move |address, request| {
        let lower = request.to_ascii_lowercase();
        let shows = lower.contains("authorization:") || lower.contains("referer:");
        match (shows, path_of(request)) {
            (true, _) => Answer::Forbidden,
            // A redirect to itself.
            (false, "/storage") => Answer::Redirect(format!("{address}/blob")),
            (false, _) => Answer::Found(wasm.clone()),
        }
    });
    let storage = storage.await;
    let server = http_server(move |_, request| match request.to_ascii_lowercase() {
        known if known.contains("authorization: basic") => {
            Answer::Redirect(format!("{storage}/storage"))
        }
        _ => Answer::Forbidden,
    });
    let server = server.await.replace("http://", "http://user:sesame@");
    let state = state_dir();
    let source = format!("{{ url = \"{server}/file?key=sesame\", digest = \"{digest}\" }}");
    let path = write_manifest(state.path(), &manifest(&source));
    let mut command = whisper_host();
    command.args(["check", "-f", path.to_str().unwrap(), "--state-dir"]);
    command.arg(state.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
}

#[tokio::test]
async fn errors_do_not_reveal_credentials() {
    let server = http_server(|address, request| match path_of(request) {
        "/v2/team/moved/manifests/1" => {
            Answer::Redirect(format!("{address}/storage?X-Amz-Signature=sesame"))
        }
        path if path.starts_with("/v2/") => Answer::Unauthorized(format!(
            "WWW-Authenticate: Bearer realm=\"{}/token?key=sesame\"\r\n",
            address.replace("http://", "http://user:sesame@"),
        )),
        _ => Answer::Forbidden,
    });
    let server = server.await;
    let address = server.strip_prefix("http://").unwrap();
    for (name, at) in [("moved", "/storage"), ("token", "/token")] {
        let source = format!("\"oci://{address}/team/{name}:1\"");
        let said = tokio::task::spawn_blocking(move || refused(state_dir().path(), &source));
        let said = said.await.unwrap();
        let shown = format!("403 Forbidden) for url ({server}{at})");
        assert!(said.contains(&shown) && !said.contains("sesame"), "{said}");
    }
}

#[tokio::test]
async fn the_token_server_gets_the_password_and_the_registry_gets_the_token() {
    let wasm = std::fs::read(component("probe-wasi02")).unwrap();
    let blob = format!("/v2/team/hello/blobs/{}", sha256(&wasm));
    let described = oci_manifest(&wasm);
    let server = http_server(move |address, request| {
        let lower = request.to_ascii_lowercase();
        let shows = |what: &str| lower.contains(&format!("\r\nauthorization: {what}\r\n"));
        match path_of(request) {
            "/token?scope=repository%3Ateam%2Fhello%3Apull&service=it" => {
                match shows(&format!("basic {}", BASIC.to_ascii_lowercase())) {
                    true => Answer::Found(br#"{"token": "sesame"}"#.to_vec()),
                    false => Answer::Unauthorized(String::new()),
                }
            }
            _ if !shows("bearer sesame") => Answer::Unauthorized(format!(
                "WWW-Authenticate: Bearer realm=\"{address}/token\",service=\"it\"\r\n"
            )),
            "/v2/team/hello/manifests/1" => Answer::Found(described.clone()),
            path if path == blob => Answer::Found(wasm.clone()),
            _ => Answer::NotFound,
        }
    });
    let server = server.await;
    let address = server.strip_prefix("http://").unwrap();
    let docker = tempfile::tempdir().unwrap();
    let state = state_dir();
    let path = write_manifest(
        state.path(),
        &manifest(&format!("\"oci://{address}/team/hello:1\"")),
    );
    let check = async || {
        let mut command = whisper_host();
        command.args(["check", "-f", path.to_str().unwrap(), "--state-dir"]);
        command
            .arg(state.path())
            .env("DOCKER_CONFIG", docker.path());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), said)
    };
    let (good, said) = check().await;
    assert!(!good && said.contains("use `docker login`"), "{said}");
    let login = serde_json::json!({"auths": {address: {"auth": BASIC}}});
    std::fs::write(docker.path().join("config.json"), login.to_string()).unwrap();
    let (good, said) = check().await;
    assert!(good, "{said}");
}

#[tokio::test]
async fn if_a_registry_does_not_respond_the_last_digest_is_used() {
    const GOOD: usize = 0;
    const BUSY: usize = 1;
    const BUSY_TOKENS: usize = 2;
    let wasm = std::fs::read(component("probe-wasi02")).unwrap();
    let blob = format!("/v2/team/hello/blobs/{}", sha256(&wasm));
    let described = oci_manifest(&wasm);
    let mode = Arc::new(AtomicUsize::new(GOOD));
    let now = Arc::clone(&mode);
    let server = http_server(move |address, request| {
        let is_token = path_of(request).starts_with("/token");
        match (now.load(Ordering::SeqCst), path_of(request)) {
            (BUSY, _) => Answer::TooManyRequests,
            (BUSY_TOKENS, _) if is_token => Answer::TooManyRequests,
            (BUSY_TOKENS, _) => Answer::Unauthorized(format!(
                "WWW-Authenticate: Bearer realm=\"{address}/token\"\r\n"
            )),
            (_, "/v2/team/hello/manifests/1") => Answer::Found(described.clone()),
            (_, path) if path == blob => Answer::Found(wasm.clone()),
            _ => Answer::NotFound,
        }
    });
    let server = server.await;
    let address = server.strip_prefix("http://").unwrap().to_owned();
    let (state, other) = (state_dir(), state_dir());
    let checked = async |folder: &Path| {
        let source = format!("\"oci://{address}/team/hello:1\"");
        let path = write_manifest(folder, &manifest(&source));
        let mut command = whisper_host();
        command.args(["check", "-f", path.to_str().unwrap(), "--state-dir"]);
        command.arg(folder);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), said)
    };
    let (good, said) = checked(state.path()).await;
    assert!(good, "{said}");
    for busy in [BUSY, BUSY_TOKENS] {
        mode.store(busy, Ordering::SeqCst);
        let (good, said) = checked(state.path()).await;
        assert!(good && said.contains("using its last digest"), "{said}");
        let (good, said) = checked(other.path()).await;
        assert!(!good && said.contains("429"), "{said}");
        assert!(!said.contains("docker login"), "{said}");
    }
}

#[tokio::test]
async fn a_file_on_a_web_server_is_served_if_its_digest_matches() {
    let wasm = std::fs::read(component("probe-wasi02")).unwrap();
    let digest = sha256(&wasm);
    let core = std::fs::read(root().join("test/manifests/core-module.wasm")).unwrap();
    let core_digest = sha256(&core);
    let server = web_server(vec![("/hello.wasm", wasm), ("/core.wasm", core)]).await;
    let source =
        |path: &str, digest: &str| format!("{{ url = \"{server}{path}\", digest = \"{digest}\" }}");
    let (wrong, state) = (sha256(b"another"), state_dir());
    let check = async |source: String| {
        let state = state.path().to_path_buf();
        tokio::task::spawn_blocking(move || refused(&state, &source))
            .await
            .unwrap()
    };
    let said = check(source("/hello.wasm", &wrong)).await;
    assert!(
        said.contains(&format!("its digest is {digest}, not {wrong}")),
        "{said}"
    );
    let said = check(source("/nothing.wasm", &digest)).await;
    assert!(said.contains("the server answered 404 Not Found"), "{said}");
    let said = check(source("/core.wasm", &core_digest)).await;
    assert!(said.contains("core WebAssembly module"), "{said}");

    let right = source("/hello.wasm", &digest);
    let host = tokio::task::spawn_blocking(move || start(state, &right))
        .await
        .unwrap();
    assert_eq!(host.get("/hello").await.text, "hello");
    // It is cached: the server is not asked again, so an unreachable address works as well.
    let gone = format!("{{ url = \"http://127.0.0.1:1/\", digest = \"{digest}\" }}");
    let host = start(host.kill(), &gone);
    assert_eq!(host.get("/hello").await.text, "hello");
}

/// Replaces a file with a component atomically, as compilers do.
fn replace(file: &Path, with: &str) {
    let aside = file.with_extension("new");
    std::fs::copy(with, &aside).unwrap();
    std::fs::rename(aside, file).unwrap();
}

#[tokio::test]
async fn watch_serves_what_changes_and_keeps_serving_when_the_change_is_broken() {
    let state = state_dir();
    let file = state.path().join("it.wasm");
    std::fs::copy(component("probe-wasi02"), &file).unwrap();
    let path = write_manifest(state.path(), &manifest("\"it.wasm\""));
    let host = Host::with(state, &["-f", path.to_str().unwrap(), "--watch"]);
    assert_eq!(host.get("/hello").await.text, "hello");
    let serves = async |text: &str| {
        eventually(async || (host.get("/hello").await.text == text).then_some(())).await;
    };
    let refusals = || {
        let log = host.log();
        let refusal = |line: &&Value| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("the application was not reloaded")
        };
        log.iter().filter(refusal).cloned().collect::<Vec<_>>()
    };

    replace(&file, &component("probe-wasi03"));
    serves("hello from 0.3").await;

    // Neither an incomplete file nor a broken manifest is served.
    std::fs::write(&file, b"\0asm").unwrap();
    eventually(async || (refusals().len() == 1).then_some(())).await;
    serves("hello from 0.3").await;
    std::fs::write(&path, "spin_manifest_version = 2\n[aplication]").unwrap();
    let refused = eventually(async || refusals().get(1).cloned()).await;
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .contains("unknown field `aplication`"),
        "{refused}"
    );
    serves("hello from 0.3").await;

    // A file that was not in the manifest before is now watched.
    let other = path.with_file_name("other.wasm");
    std::fs::copy(component("probe-wasi02"), &other).unwrap();
    std::fs::write(&path, manifest("\"other.wasm\"")).unwrap();
    serves("hello").await;
    replace(&other, &component("probe-wasi03"));
    serves("hello from 0.3").await;
}

#[tokio::test]
async fn a_reload_cancels_obsolete_downloads() {
    let server = http_server(|_, _| Answer::Dripping).await;
    let local = "\"{components}/probe-wasi02.wasm\"";
    let host = Host::with_manifest(&manifest(local), &[]);
    let digest = sha256(b"");
    let slow = format!("{{ url = \"{server}/slow.wasm\", digest = \"{digest}\" }}");
    write_manifest(host.state.path(), &manifest(&slow));
    host.signal(Signal::HUP);
    host.wait_for_log(|line| line["message"] == "fetching a component")
        .await;
    let next = manifest(local).replace("/...", "/next/...");
    write_manifest(host.state.path(), &next);
    host.signal(Signal::HUP);
    eventually(async || (host.get("/next/hello").await.text == "hello").then_some(())).await;
}

#[tokio::test]
async fn a_reload_rebuilds_only_changed_components_and_keeps_deployments() {
    let two = |environment: &str| {
        format!(
            "{}\n[[trigger.http]]\nroute = \"/other/...\"\ncomponent = \"other\"\n[component.other]\n\
             source = \"{{components}}/probe-wasi02.wasm\"\nenvironment = {{ A = \"{environment}\" }}\n",
            manifest("\"{components}/probe-wasi02.wasm\"")
        )
    };
    let host = Host::with_manifest(&two("1"), &[]);
    let wasm = std::fs::read(component("probe-wasi02")).unwrap();
    let mine = common::fragment("mine", "/mine/...", serde_json::json!({}));
    let answer = common::deploy(&host.admin, "mine", &mine, &wasm).await;
    assert_eq!(answer.unwrap().status, 200);
    // A request in flight continues while its component is replaced.
    let url = format!("{}/other/echo", host.url);
    let (more, rest) = tokio::sync::oneshot::channel::<()>();
    let body = futures::stream::once(async { Ok::<_, std::io::Error>("early, ") }).chain(
        futures::stream::once(async move {
            rest.await.unwrap();
            Ok("late")
        }),
    );
    let request = client().post(url).body(reqwest::Body::wrap_stream(body));
    let under_way = tokio::spawn(async move { request.send().await.unwrap().text().await });
    let running = format!("{}/v1/components/other", host.admin);
    eventually(async || {
        let answer = common::answer(client().get(&running).send().await.unwrap()).await;
        (answer.json()["metrics"]["running"] == 1).then_some(())
    })
    .await;

    write_manifest(host.state.path(), &two("2"));
    host.signal(Signal::HUP);
    let reloaded = host
        .wait_for_log(|line| line["message"] == "reloaded the application")
        .await;
    assert_eq!(reloaded["changed"], "other");
    assert_eq!(host.get("/other/environment").await.text, "A=2");
    assert_eq!(host.get("/mine/hello").await.text, "hello");
    more.send(()).unwrap();
    assert_eq!(under_way.await.unwrap().unwrap(), "early, late");

    // A deployment is not lost to a manifest that takes its route.
    let clash = two("3").replace("/other/...", "/mine/...");
    write_manifest(host.state.path(), &clash);
    host.signal(Signal::HUP);
    let refused = host.wait_for_log(|line| line["level"] == "ERROR").await;
    assert!(
        refused["error"].as_str().unwrap().contains("clashes"),
        "{refused}"
    );
    assert_eq!(host.get("/other/environment").await.text, "A=2");
    assert_eq!(host.get("/mine/hello").await.text, "hello");
}
