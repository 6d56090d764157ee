//! Models by name: downloaded from a hub on loopback, stored in the hub's cache, and served.

mod common;
#[path = "common/hub.rs"]
mod hub;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Host, recording, root, said_in, state_dir, whisper_host, words};
use hub::{COMMIT, Faults, Hub, git, sha256};
use serde_json::Value;
use tempfile::TempDir;

const BASE: &str = "Systran/faster-whisper-base";
/// Length of the weights in these tests: several chunks of a response.
const WEIGHTS: usize = 400_000;

/// A hub with a repository in faster-whisper's format, and a cache.
struct Fixture {
    hub: Hub,
    home: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let hub = Hub::start();
        for (path, bytes) in [
            (".gitattributes", "*.bin filter=lfs"),
            ("README.md", "# a model"),
            ("config.json", "{\"suppress_ids\": []}"),
            ("tokenizer.json", "{}"),
            ("vocabulary.txt", "a\nb\n"),
        ] {
            hub.add(BASE, path, bytes);
        }
        hub.add(BASE, "model.bin", weights());
        Self {
            hub,
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// The environment of a command that uses this hub and cache.
    fn environment(&self) -> [(&str, String); 4] {
        let home = self.home.path().to_str().unwrap();
        [
            ("HF_ENDPOINT", self.hub.endpoint.clone()),
            ("HF_HOME", home.to_owned()),
            ("WHISPER_HOST_MODELS", format!("{home}/models")),
            ("NO_PROXY", "127.0.0.1".to_owned()),
        ]
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = whisper_host();
        command.args(args).envs(self.environment());
        command
    }

    fn models(&self, args: &[&str]) -> CommandOutput {
        CommandOutput::by(&mut self.command(&[&["models"][..], args].concat()))
    }

    /// The row of `models list --json` with this name.
    fn listed(&self, name: &str) -> Value {
        let said = self.models(&["list", "--json"]).ok();
        let rows: Vec<Value> = serde_json::from_str(&said).unwrap();
        let row = rows.into_iter().find(|row| row["name"] == name);
        row.unwrap_or_else(|| panic!("no {name} in {said}"))
    }

    fn cached(&self, repository: &str) -> PathBuf {
        let name = format!("models--{}", repository.replace('/', "--"));
        self.home.path().join("hub").join(name)
    }

    /// The names of the blobs of the base model.
    fn blobs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.cached(BASE).join("blobs")).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn host(&self, args: &[&str]) -> Host {
        let environment = self.environment();
        let environment = environment.each_ref().map(|(k, v)| (*k, v.as_str()));
        Host::with_environment(state_dir(), args, &environment)
    }
}

/// Output of a command.
struct CommandOutput(Output);

impl CommandOutput {
    fn by(command: &mut Command) -> Self {
        Self(command.output().unwrap())
    }

    /// Standard output of a command that succeeded.
    fn ok(self) -> String {
        let stderr = String::from_utf8_lossy(&self.0.stderr);
        assert_eq!(self.0.status.code(), Some(0), "{stderr}");
        String::from_utf8(self.0.stdout).unwrap().trim().to_owned()
    }

    /// The one error of a command that failed.
    fn error(self) -> String {
        let stderr = String::from_utf8(self.0.stderr).unwrap();
        assert_eq!(self.0.status.code(), Some(1), "{stderr}");
        let errors: Vec<&str> = stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{stderr}");
        assert!(!stderr.contains("ERROR"), "{stderr}");
        errors[0].to_owned()
    }
}

fn weights() -> Vec<u8> {
    (0..WEIGHTS).map(|i| (i * i / 7) as u8).collect()
}

/// Start offsets of the ranges of the weights requested from the server of large files.
fn ranges(requests: &[String]) -> Vec<usize> {
    let asked = format!("GET /{BASE}/model.bin bytes=");
    let from = |request: &String| {
        request
            .strip_prefix(&asked)?
            .split('-')
            .next()?
            .parse()
            .ok()
    };
    requests.iter().filter_map(from).collect()
}

#[test]
fn a_name_is_pulled_listed_found_and_removed() {
    let fixture = Fixture::new();
    assert_eq!(fixture.listed("base")["repository"], BASE);
    assert_eq!(fixture.listed("base")["path"], Value::Null);
    assert!(fixture.hub.requests().is_empty(), "listing asks nobody");

    let folder = fixture.models(&["pull", "base"]).ok();
    let expected = fixture.cached(BASE).join("snapshots").join(COMMIT);
    assert_eq!(Path::new(&folder), expected);
    assert_eq!(
        std::fs::read(expected.join("model.bin")).unwrap(),
        weights()
    );
    assert_eq!(
        std::fs::read_link(expected.join("model.bin")).unwrap(),
        Path::new("../../blobs").join(sha256(&weights()))
    );
    assert_eq!(
        std::fs::read_link(expected.join("vocabulary.txt")).unwrap(),
        Path::new("../../blobs").join(git(b"a\nb\n"))
    );
    assert!(!expected.join("README.md").exists(), "the host reads none");

    let row = fixture.listed("base");
    assert_eq!(row["path"], folder.as_str());
    assert_eq!(row["bytes"], WEIGHTS + 20 + 2 + 4);
    assert_eq!(fixture.models(&["path", "base"]).ok(), folder);
    assert_eq!(fixture.models(&["path", BASE]).ok(), folder);
    let text = fixture.models(&["list"]).ok();
    let line = text.lines().find(|line| line.starts_with("base ")).unwrap();
    assert!(line.contains(BASE) && line.ends_with(&folder), "{line}");

    assert!(
        fixture
            .models(&["remove", "base"])
            .ok()
            .starts_with(&format!("removed {BASE}: "))
    );
    assert!(!fixture.cached(BASE).exists());
    assert_eq!(
        fixture.models(&["path", "base"]).error(),
        format!("error: {BASE} is not here; run `whisper-host models pull base`")
    );
    assert_eq!(
        fixture.models(&["remove", "base"]).ok(),
        format!("{BASE} is not in the cache")
    );
}

#[test]
fn files_that_are_present_are_not_downloaded_again() {
    let fixture = Fixture::new();
    fixture.models(&["pull", "base"]).ok();
    fixture.hub.requests();
    fixture.models(&["pull", "base"]).ok();
    assert_eq!(
        fixture.hub.requests(),
        [format!("GET /api/models/{BASE}/revision/main")]
    );
}

#[test]
fn a_cache_filled_by_other_programs_is_used_without_a_request() {
    let fixture = Fixture::new();
    // The layout of Python's huggingface_hub.
    let folder = fixture.cached(BASE);
    let snapshot = folder.join("snapshots/aaaabbbbccccddddeeeeffff0000111122223333");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(folder.join("blobs")).unwrap();
    std::fs::create_dir_all(folder.join("refs")).unwrap();
    std::fs::write(
        folder.join("refs/main"),
        "aaaabbbbccccddddeeeeffff0000111122223333",
    )
    .unwrap();
    for name in ["config.json", "vocabulary.txt", "model.bin"] {
        std::fs::write(folder.join("blobs").join(name), "{\"suppress_ids\": []}").unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{name}"), snapshot.join(name)).unwrap();
    }
    assert_eq!(Path::new(&fixture.models(&["path", "base"]).ok()), snapshot);
    assert_eq!(fixture.listed("base")["path"], snapshot.to_str().unwrap());
    let state = state_dir();
    let state = state.path().to_str().unwrap();
    // The files are not a model, so they are refused, but only when they are loaded.
    let error = CommandOutput::by(&mut fixture.command(&[
        "check",
        "--model",
        "base",
        "--state-dir",
        state,
    ]));
    assert!(error.error().contains(snapshot.to_str().unwrap()));
    assert!(fixture.hub.requests().is_empty());

    // Without its weights the model is incomplete.
    std::fs::remove_file(folder.join("blobs/model.bin")).unwrap();
    fixture.models(&["path", "base"]).error();
}

#[test]
fn an_interrupted_download_is_resumed() {
    let fixture = Fixture::new();
    fixture.hub.behave(Faults {
        aborts_after: Some(50_000),
        ..Faults::default()
    });
    let error = fixture.models(&["pull", "base"]).error();
    assert!(
        error.contains("broke off after 250000 of 400000 bytes of model.bin"),
        "{error}"
    );
    assert_eq!(
        ranges(&fixture.hub.requests()),
        [50_000, 100_000, 150_000, 200_000]
    );
    let partial = format!("{}.incomplete", sha256(&weights()));
    assert!(fixture.blobs().contains(&partial));
    assert_eq!(fixture.listed("base")["path"], Value::Null);
    fixture.models(&["path", "base"]).error();

    fixture.hub.behave(Faults::default());
    let folder = fixture.models(&["pull", "base"]).ok();
    assert_eq!(ranges(&fixture.hub.requests()), [250_000]);
    assert_eq!(
        std::fs::read(Path::new(&folder).join("model.bin")).unwrap(),
        weights()
    );
    assert!(!fixture.blobs().contains(&partial));
}

#[test]
fn leftovers_of_an_earlier_run_are_used_only_if_they_match() {
    for ignores_ranges in [false, true] {
        let fixture = Fixture::new();
        fixture.hub.behave(Faults {
            ignores_ranges,
            ..Faults::default()
        });
        let blobs = fixture.cached(BASE).join("blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        let partial = blobs.join(format!("{}.incomplete", sha256(&weights())));
        let left = match ignores_ranges {
            true => weights()[..1000].to_vec(),
            false => vec![7; 1000],
        };
        std::fs::write(partial, left).unwrap();
        let folder = fixture.models(&["pull", "base"]).ok();
        assert_eq!(ranges(&fixture.hub.requests()), [1000]);
        assert_eq!(
            std::fs::read(Path::new(&folder).join("model.bin")).unwrap(),
            weights()
        );
    }
}

#[test]
fn a_file_with_another_digest_is_refused_and_discarded() {
    let fixture = Fixture::new();
    fixture.hub.behave(Faults {
        corrupts: Some("model.bin"),
        ..Faults::default()
    });
    let error = fixture.models(&["pull", "base"]).error();
    let stated = sha256(&weights());
    assert!(
        error.contains("model.bin") && error.contains(&format!("not sha256:{stated}")),
        "{error}"
    );
    let blobs = fixture.blobs();
    assert!(
        blobs.iter().all(|name| !name.contains(&stated)),
        "{blobs:?}"
    );
    fixture.models(&["path", "base"]).error();
}

#[test]
fn a_full_disk_is_reported_and_leaves_no_incomplete_model() {
    let fixture = Fixture::new();
    // Limit files to 200 blocks of 512 bytes: writes fail like on a full disk.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_whisper-host"))
        .args(["models", "pull", "base"])
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .envs(fixture.environment());
    let error = CommandOutput::by(&mut command).error();
    assert!(
        error.contains("cannot write") && error.contains("make room"),
        "{error}"
    );
    fixture.models(&["path", "base"]).error();
    fixture.models(&["pull", "base"]).ok();
}

#[test]
fn a_listed_but_missing_file_is_named() {
    let fixture = Fixture::new();
    fixture.hub.behave(Faults {
        lacks: Some("tokenizer.json"),
        ..Faults::default()
    });
    let error = fixture.models(&["pull", "base"]).error();
    assert!(
        error.contains(&format!("{BASE} lists tokenizer.json")),
        "{error}"
    );
}

#[test]
fn a_missing_token_error_says_how_to_set_it() {
    let fixture = Fixture::new();
    fixture.hub.behave(Faults {
        token: Some("hf_secret"),
        ..Faults::default()
    });
    let error = fixture.models(&["pull", "base"]).error();
    assert!(
        error.contains("401") && error.contains("set HF_TOKEN"),
        "{error}"
    );
    CommandOutput::by(
        fixture
            .command(&["models", "pull", "base"])
            .env("HF_TOKEN", "hf_secret"),
    )
    .ok();
    // `hf auth login` stores it in a file.
    fixture.models(&["remove", "base"]).ok();
    std::fs::write(fixture.home.path().join("token"), "hf_secret\n").unwrap();
    fixture.models(&["pull", "base"]).ok();
}

#[test]
fn without_the_network_one_error_says_what_to_run() {
    let fixture = Fixture::new();
    let state = state_dir();
    let state = state.path().to_str().unwrap();
    let check = [
        "check",
        "--log",
        "warn",
        "--model",
        "base",
        "--state-dir",
        state,
    ];
    let offline = CommandOutput::by(fixture.command(&check).env("HF_HUB_OFFLINE", "1")).error();
    // Nothing listens on this port.
    let unreachable = CommandOutput::by(
        fixture
            .command(&check)
            .env("HF_ENDPOINT", "http://127.0.0.1:9"),
    );
    let unreachable = unreachable.error();
    for (error, expected) in [
        (offline, "HF_HUB_OFFLINE"),
        (unreachable, "cannot be reached"),
    ] {
        assert!(
            error.contains(expected)
                && error.contains(&format!("run `whisper-host models pull {BASE}`")),
            "{error}"
        );
    }
    assert!(fixture.hub.requests().is_empty());
    // Downloaded models still work.
    let folder = fixture.models(&["pull", "base"]).ok();
    for args in [["models", "path", "base"], ["models", "pull", "base"]] {
        let again = CommandOutput::by(fixture.command(&args).env("HF_HUB_OFFLINE", "1"));
        assert_eq!(again.ok(), folder);
    }
}

#[test]
fn unknown_models_are_refused_with_suggestions() {
    let fixture = Fixture::new();
    fixture.hub.add("somebody/else", "config.json", "{}");
    for (wanted, expected) in [
        ("smal", "there is no model `smal`; did you mean small"),
        (
            "no/where",
            "has no repository no/where, and there is no folder of that name",
        ),
        (
            "somebody/else",
            "holds no Whisper model that the host can load",
        ),
        ("./nowhere", "there is no folder `./nowhere`"),
    ] {
        let error = fixture.models(&["pull", wanted]).error();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_models_folder_takes_precedence_over_the_cache_and_is_never_removed() {
    let fixture = Fixture::new();
    let own = fixture.home.path().join("models/base");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("model.bin"), "12345").unwrap();
    let row = fixture.listed("base");
    assert_eq!(
        (row["path"].as_str(), &row["bytes"]),
        (own.to_str(), &5.into())
    );
    assert_eq!(Path::new(&fixture.models(&["path", "base"]).ok()), own);
    let error = fixture.models(&["remove", "base"]).error();
    assert!(error.contains("remove the folder yourself"), "{error}");
    assert!(own.join("model.bin").exists());
}

#[tokio::test]
async fn up_downloads_a_missing_repository_and_transcribes_with_it() {
    let fixture = Fixture::new();
    let synthetic = root().join("test/models/synthetic");
    fixture.hub.add_folder("somebody/whisper-onnx", &synthetic);
    let host = fixture.host(&["--model", "somebody/whisper-onnx"]);
    let answer = host.analyze("home.m4a", recording("home.m4a"), &[]).await;
    assert_eq!(words(&answer.transcription()), said_in("home.m4a"));
    let told = host.log().iter().any(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("fetching somebody/whisper-onnx, which is not here yet")
    });
    assert!(told, "{:?}", host.log());
    // int8 is the default on a CPU, so only that was downloaded.
    let requests = fixture.hub.requests();
    let fetched = |name: &str| {
        let path = format!("GET /somebody/whisper-onnx/onnx/{name}");
        requests.contains(&path)
    };
    assert!(fetched("encoder_model_quantized.onnx"));
    assert!(!fetched("encoder_model.onnx"));
    drop(host);

    let again = fixture.host(&["--model", "somebody/whisper-onnx"]);
    let answer = again.analyze("home.m4a", recording("home.m4a"), &[]).await;
    assert_eq!(words(&answer.transcription()), said_in("home.m4a"));
    assert!(fixture.hub.requests().is_empty());
}

#[tokio::test]
async fn each_component_gets_the_models_it_names_by_id() {
    let fixture = Fixture::new();
    let synthetic = root().join("test/models/synthetic");
    // The same model, in a folder with only the 32-bit files.
    let own = fixture.home.path().join("models/exact");
    std::fs::create_dir_all(own.join("onnx")).unwrap();
    for name in [
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "onnx/encoder_model.onnx",
        "onnx/decoder_model_merged.onnx",
    ] {
        std::os::unix::fs::symlink(synthetic.join(name), own.join(name)).unwrap();
    }
    let manifest = std::fs::read_to_string(root().join("spin.toml"))
        .unwrap()
        .replace("target/components", "{components}")
        .replace(
            "ai_models = [\"whisper\"]",
            "ai_models = [\"fast\", \"exact\"]",
        );
    let state = state_dir();
    let path = common::write_manifest(state.path(), &manifest);
    let path = path.to_str().unwrap();
    let host = fixture.host(&[
        "-f",
        path,
        "--model",
        "fast=test/models/synthetic,exact=exact",
    ]);
    for expected in [
        "model   fast: test/models/synthetic (encoder_model_quantized.onnx",
        &format!("model   exact: {} (encoder_model.onnx", own.display()),
    ] {
        assert!(host.start_up.contains(expected), "{}", host.start_up);
    }
    let answer = host.analyze("home.m4a", recording("home.m4a"), &[]).await;
    assert_eq!(words(&answer.transcription()), said_in("home.m4a"));

    let state_folder = state.path().to_str().unwrap();
    let check = |models: &[&str]| {
        let args = ["check", "--log", "error", "-f", path, "--state-dir"];
        CommandOutput::by(fixture.command(&args).arg(state_folder).args(models)).error()
    };
    assert_eq!(
        check(&["--model", "fast=test/models/synthetic"]),
        "error: component analyze: ai_models names \"exact\", but the models of this host are: fast; name one of them, or \
         start the host with `--model exact=MODEL` in addition to the others"
    );
    assert!(
        check(&["--model", "exact", "--model", "test/models/synthetic"])
            .contains("two models have the id `whisper`")
    );
}
