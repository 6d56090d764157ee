//! Runs the real binary on a free port, with its own state folder.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(missing_docs)]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use num2words::Num2Words;
use serde_json::Value;
use tempfile::TempDir;

/// Timeout for events that should happen immediately, on a machine busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// The binary, run from the repository root.
pub fn whisper_host() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_whisper-host"));
    command.current_dir(root());
    // Settings in the environment must not affect the tests.
    for (name, _) in std::env::vars_os() {
        if [
            "WHISPER_HOST_",
            "SPIN_VARIABLE_",
            "HF_",
            "HUGGINGFACE_",
            "OTEL_",
        ]
        .iter()
        .any(|prefix| name.to_string_lossy().starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command.env("WHISPER_HOST_MODEL", "test/models/synthetic");
    command
}

/// A server that `make test` provides. `None` if it cannot: prints a message.
pub fn server_program(name: &str) -> Option<PathBuf> {
    let program = root().join(".tools/servers").join(name);
    if program.exists() {
        return Some(program);
    }
    eprintln!(
        "skipped: there is no {}; scripts/setup-servers.sh puts it there",
        program.display()
    );
    None
}

/// An address of a port that was free just now.
pub fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A state folder whose code cache is shared by all tests, because compiling takes seconds.
pub fn state_dir() -> TempDir {
    let cache = root().join("target/test-code-cache");
    std::fs::create_dir_all(&cache).unwrap();
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o700)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(cache, folder.path().join("code")).unwrap();
    folder
}

/// A running host. Dropping it kills it.
pub struct Host {
    child: Child,
    pub url: String,
    /// The admin interface.
    pub admin: String,
    pub state: TempDir,
    /// Output up to `ready`.
    pub start_up: String,
}

impl Host {
    /// The default application.
    pub fn start() -> Self {
        Self::with(state_dir(), &[])
    }

    /// The application of this manifest, in which `{components}` is replaced by the folder of built components.
    pub fn with_manifest(manifest: &str, args: &[&str]) -> Self {
        let state = state_dir();
        let path = write_manifest(state.path(), manifest);
        Self::with(state, &[&["-f", path.to_str().unwrap()], args].concat())
    }

    pub fn with(state: TempDir, args: &[&str]) -> Self {
        Self::with_environment(state, args, &[])
    }

    pub fn with_environment(state: TempDir, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(state.path().join("log"))
            .unwrap();
        Self::logging_to(log, state, args, environment)
    }

    pub fn logging_to(
        log: impl Into<Stdio>,
        state: TempDir,
        args: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        use_ring();
        let mut command = whisper_host();
        command
            .args(["up", "--listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0", "--state-dir"])
            .arg(state.path());
        let mut child = command
            .args(args)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut start_up = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let Some(Ok(line)) = lines.next() else {
                child.wait().unwrap();
                panic!(
                    "the host did not start:\n{}",
                    std::fs::read_to_string(state.path().join("log")).unwrap()
                );
            };
            start_up += &line;
            start_up.push('\n');
            if let Some(rest) = line.strip_prefix("ready on ") {
                break rest.split(' ').next().unwrap().to_owned();
            }
        };
        let admin = start_up
            .lines()
            .find_map(|line| line.trim().strip_prefix("admin"))
            .unwrap()
            .trim()
            .to_owned();
        Self {
            child,
            url,
            admin,
            state,
            start_up,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// The log so far, one JSON object a line.
    pub fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.state.path().join("log")).unwrap();
        // The last line may be incomplete.
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for a line of the log in text form that has all of these, in this order.
    pub async fn wait_for_text(&self, parts: &[&str]) -> String {
        eventually(async || {
            let text = std::fs::read_to_string(self.state.path().join("log")).unwrap();
            let has_all = |line: &&str| {
                let mut rest = *line;
                parts.iter().all(|part| match rest.split_once(part) {
                    Some((_, after)) => {
                        rest = after;
                        true
                    }
                    None => false,
                })
            };
            text.lines().find(has_all).map(str::to_owned)
        })
        .await
    }

    /// Waits for a line of the log.
    pub async fn wait_for_log(&self, what: impl Fn(&Value) -> bool) -> Value {
        eventually(async || self.log().into_iter().find(&what)).await
    }

    /// `kill -9`. The state folder is kept.
    pub fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.state, tempfile::tempdir().unwrap())
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits for the process to end by itself.
    pub async fn exit_code(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "the host did not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(reqwest::get(format!("{}{path}", self.url)).await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        answer(
            client()
                .post(format!("{}{path}", self.url))
                .body(body)
                .send()
                .await
                .unwrap(),
        )
        .await
    }

    /// `POST /analyze` as `curl -F file=@…` sends it, with more fields.
    pub async fn analyze(&self, name: &str, bytes: Vec<u8>, fields: &[(&str, &str)]) -> Answer {
        let mut form = reqwest::multipart::Form::new();
        for (name, value) in fields {
            form = form.text((*name).to_owned(), (*value).to_owned());
        }
        form = form.part(
            "file",
            reqwest::multipart::Part::bytes(bytes).file_name(name.to_owned()),
        );
        answer(
            client()
                .post(format!("{}/analyze", self.url))
                .multipart(form)
                .send()
                .await
                .unwrap(),
        )
        .await
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The manifest of a component deployed on a route, with fields of its `[component.ID]`.
pub fn fragment(id: &str, route: &str, fields: Value) -> Value {
    serde_json::json!({
        "trigger": {"http": [{"route": route, "component": id}]},
        "component": {id: fields},
    })
}

/// The form of a deployment.
pub fn deployment(manifest: &Value, wasm: impl Into<Vec<u8>>) -> reqwest::multipart::Form {
    let part = |bytes: Vec<u8>, kind| {
        let part = reqwest::multipart::Part::bytes(bytes);
        part.mime_str(kind).unwrap()
    };
    let manifest = manifest.to_string().into_bytes();
    reqwest::multipart::Form::new()
        .part("manifest", part(manifest, "application/json"))
        .part("component", part(wasm.into(), "application/wasm"))
}

/// Deploys a component over the admin interface.
pub async fn deploy(admin: &str, id: &str, manifest: &Value, wasm: &[u8]) -> Option<Answer> {
    let url = format!("{admin}/v1/components/{id}");
    let request = client().put(url).multipart(deployment(manifest, wasm));
    Some(answer(request.send().await.ok()?).await)
}

pub fn client() -> reqwest::Client {
    client_builder().build().unwrap()
}

pub fn client_builder() -> reqwest::ClientBuilder {
    use_ring();
    reqwest::Client::builder()
}

/// The HTTP client is built like the host's, which selects its TLS provider at run time.
fn use_ring() {
    // Another test in this process may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The file of a built component.
pub fn component(name: &str) -> String {
    let path = root()
        .join("target/components")
        .join(format!("{name}.wasm"));
    path.to_str().unwrap().to_owned()
}

pub fn write_manifest(folder: &Path, manifest: &str) -> PathBuf {
    let path = folder.join("spin.toml");
    let components = root().join("target/components");
    std::fs::write(
        &path,
        manifest.replace("{components}", components.to_str().unwrap()),
    )
    .unwrap();
    path
}

/// The error of `check` for a manifest that it refuses.
pub fn refused(state: &Path, manifest: &str) -> String {
    let path = write_manifest(state, manifest);
    let output = whisper_host()
        .args(["check", "-f", path.to_str().unwrap(), "--state-dir"])
        .arg(state)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

/// A response, read to the end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn transcription(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()["transcription"].as_str().unwrap().to_owned()
    }

    /// Status and code of an error; checks its format.
    pub fn error(&self) -> (u16, String) {
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        assert_eq!(json["error"].as_object().unwrap().len(), 2, "{json}");
        assert!(
            !json["error"]["message"].as_str().unwrap().is_empty(),
            "{json}"
        );
        assert_eq!(self.headers["content-type"], "application/json");
        (
            self.status,
            json["error"]["code"].as_str().unwrap().to_owned(),
        )
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

pub async fn answer(response: reqwest::Response) -> Answer {
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap(),
    }
}

/// Retries until there is a value.
pub async fn eventually<T>(mut what: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = what().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "it did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The names of the five recordings.
pub const RECORDINGS: [&str; 5] = [
    "story.mp3",
    "numbers.wav",
    "garden.flac",
    "journey.ogg",
    "home.m4a",
];

/// A recording's bytes.
pub fn recording(name: &str) -> Vec<u8> {
    std::fs::read(root().join("test/audio").join(name)).unwrap()
}

/// The words of a recording, normalised by [`words`].
pub fn said_in(name: &str) -> Vec<String> {
    words(
        &std::fs::read_to_string(root().join("test/audio").join(name).with_extension("txt"))
            .unwrap(),
    )
}

/// Lower case, without punctuation, and numbers as words: people write "342", the synthetic model spells it out.
pub fn words(text: &str) -> Vec<String> {
    let without_punctuation = |text: &str| -> String {
        text.chars()
            .filter(|c| c.is_alphanumeric() || c.is_whitespace() || *c == '\'')
            .collect()
    };
    without_punctuation(text)
        .split_whitespace()
        .flat_map(|word| match word.parse::<u32>() {
            Ok(number) => without_punctuation(&Num2Words::new(number).to_words().unwrap())
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            Err(_) => vec![word.to_lowercase()],
        })
        .collect()
}

/// Words wrong: substitutions, deletions and insertions (Levenshtein distance on words).
pub fn word_errors(said: &[String], heard: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, said) in said.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, heard) in heard.iter().enumerate() {
            let substituted = diagonal + usize::from(said != heard);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[heard.len()]
}

/// A WAV file, 16 kHz mono 16-bit, of `seconds` of a quiet hum.
pub fn wav(seconds: f64, sample: impl Fn(usize) -> i16) -> Vec<u8> {
    let samples = (seconds * 16_000.0) as usize;
    let bytes = u32::try_from(samples * 2).unwrap();
    let mut wav = Vec::with_capacity(44 + samples * 2);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(36 + bytes).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend_from_slice(&16_000u32.to_le_bytes());
    wav.extend_from_slice(&32_000u32.to_le_bytes());
    wav.extend_from_slice(b"\x02\0\x10\0data");
    wav.extend_from_slice(&bytes.to_le_bytes());
    for i in 0..samples {
        wav.extend_from_slice(&sample(i).to_le_bytes());
    }
    wav
}

/// The default application with other limits for `analyze`.
pub fn default_manifest_with(limits: &str) -> String {
    let manifest = std::fs::read_to_string(root().join("spin.toml"))
        .unwrap()
        .replace("target/components", "{components}");
    let start = manifest
        .find("[component.analyze.tool.whisper-host.limits]")
        .unwrap();
    let end = start + manifest[start..].find("\n\n").unwrap();
    format!(
        "{}[component.analyze.tool.whisper-host.limits]\n{limits}{}",
        &manifest[..start],
        &manifest[end..]
    )
}
