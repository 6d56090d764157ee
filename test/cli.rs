//! The command line, except `up`.

mod common;

use std::process::Output;

use common::{Host, recording, root, said_in, state_dir, whisper_host, words};
use serde_json::Value;

fn run(args: &[&str]) -> Output {
    whisper_host().args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_closed_stdout_ends_the_program_quietly() {
    let state = state_dir();
    let state = state.path().to_str().unwrap();
    for args in [
        &["schema"][..],
        &["check", "--log", "warn", "--state-dir", state],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = whisper_host().args(args).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(stderr(&output), "", "{args:?}");
    }
}

/// OpenAI's Whisper, from faster-whisper's files. Words, capitals and punctuation match the output of faster-whisper 1.2.1 for
/// the same file.
#[test]
fn transcribe_works_with_a_real_whisper_model() {
    let model = ".tools/models/tiny.en";
    assert!(
        root().join(model).is_dir(),
        "this test needs the model tiny.en in `{model}`; run `make test-model`"
    );
    let state = state_dir();
    let state = state.path().to_str().unwrap();
    for precision in ["int8", "fp32"] {
        let output = run(&[
            "transcribe",
            "--log",
            "warn",
            "--state-dir",
            state,
            "--model",
            model,
            "--precision",
            precision,
            "test/audio/garden.flac",
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(
            stdout(&output).trim(),
            "The wizard took a letter from the castle. The dragon guarded the treasure in the dark cave."
        );
    }
}

#[test]
fn transcribe_prints_the_words_of_each_file() {
    let state = state_dir();
    let state = state.path().to_str().unwrap();
    let one = run(&[
        "transcribe",
        "--log",
        "warn",
        "--state-dir",
        state,
        "--beam-size",
        "2",
        "test/audio/home.m4a",
    ]);
    assert!(one.status.success(), "{}", stderr(&one));
    assert_eq!(words(&stdout(&one)), said_in("home.m4a"));
    assert_eq!(stderr(&one), "", "no progress bar without a terminal");
    // Command-line calls are not recorded as the server's.
    assert!(
        !std::path::Path::new(state)
            .join("timeseries.sqlite")
            .exists()
    );
}

#[test]
fn transcribe_continues_after_a_file_that_fails() {
    let state = state_dir();
    let args = [
        "transcribe",
        "--log",
        "warn",
        "--json",
        "--timestamps",
        "--state-dir",
        state.path().to_str().unwrap(),
    ];
    let failing = ["Makefile", "no-such-file.wav", "test/audio", "/dev/zero"];
    let output = run(&[&args[..], &failing, &["test/audio/garden.flac"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 5);
    let errors = [
        "not an audio file",
        "No such file",
        "cannot be read: Is a directory",
        "larger than the 128.0 MiB",
    ];
    for ((line, file), error) in lines.iter().zip(failing).zip(errors) {
        assert_eq!(line["file"], file);
        assert!(line["error"].as_str().unwrap().contains(error), "{line}");
    }
    assert_eq!(
        words(lines[4]["transcription"].as_str().unwrap()),
        said_in("garden.flac")
    );
    assert!(
        lines[4]["segments"]
            .as_array()
            .is_some_and(|s| !s.is_empty()),
        "{}",
        lines[4]
    );
}

#[test]
fn check_prints_what_each_component_may_use() {
    let state = state_dir();
    let args = [
        "check",
        "--log",
        "warn",
        "--state-dir",
        state.path().to_str().unwrap(),
    ];
    let text = stdout(&run(&args));
    for expected in [
        "analyze\n",
        "inference with whisper; time-series store",
        "/stats",
        "spin.toml: ok",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    let json: Value =
        serde_json::from_str(&stdout(&run(&[&args[..], &["--json"]].concat()))).unwrap();
    assert_eq!(json["components"][0]["id"], "analyze");
    assert_eq!(json["components"][0]["limits"]["request_body"], 128 << 20);
    assert_eq!(
        json["components"][1]["grants"],
        serde_json::json!(["time-series store"])
    );
}

#[tokio::test]
async fn stats_sums_up_the_calls_of_a_running_host() {
    let host = Host::start();
    for _ in 0..2 {
        host.post("/analyze", recording("garden.flac")).await;
    }
    host.post("/analyze", b"garbage".to_vec()).await;
    let url = format!("{}/stats", host.url);
    let output = run(&["stats", "--url", &url, "--since", "2h", "--json"]);
    let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        (&summary["calls"], &summary["failed_calls"]),
        (&2.into(), &1.into())
    );
    let hours = summary["audio_hours"].as_f64().unwrap();
    // Twice 5.7 s.
    assert!((hours * 3600.0 - 11.4).abs() < 0.1, "{hours}");
    let latency = |name: &str| summary["latency"][name].as_f64().unwrap();
    assert!(latency("p50") <= latency("p95") && latency("p95") <= latency("p99"));
    let intervals = summary["calls_by_interval"].as_array().unwrap();
    assert_eq!((intervals.len(), &intervals[23]), (24, &2.into()));
    let output = run(&["stats", "--url", &url, "--language", "xx"]);
    let text = stdout(&output);
    assert!(
        text.starts_with("calls    0 and 0 failed\nlatency  p50 0.00 s"),
        "{text}"
    );
    assert!(text.ends_with("▁▁▁\n"), "{text}");
    let output = run(&["stats", "--url", "http://127.0.0.1:1/stats"]);
    assert!(
        stderr(&output).contains("cannot reach a host"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn help_names_every_setting_with_its_default_and_environment_variable() {
    let help = stdout(&run(&["up", "--help"]));
    for expected in [
        "--listen",
        "[default: 127.0.0.1:8000]",
        "WHISPER_HOST_LISTEN",
        "--model",
        "[default: base]",
        "--models",
        "[default: .tools/models]",
        "--device",
        "--state-dir",
        "--shutdown-timeout",
    ] {
        assert!(help.contains(expected), "no {expected} in:\n{help}");
    }
}

#[test]
fn the_environment_overrides_the_file_and_a_flag_overrides_both() {
    let state = state_dir();
    let config = state.path().join("config.toml");
    std::fs::write(&config, "model = \"from-the-file\"").unwrap();
    let model_tried = |environment: Option<&str>, flag: Option<&str>| {
        let mut command = whisper_host();
        command
            .env_remove("WHISPER_HOST_MODEL")
            .env("WHISPER_HOST_CONFIG", &config)
            .arg("check")
            .arg("--state-dir")
            .arg(state.path());
        command.envs(environment.map(|value| ("WHISPER_HOST_MODEL", value)));
        command.args(flag.map(|value| ["--model", value]).into_iter().flatten());
        stderr(&command.output().unwrap())
    };
    assert!(model_tried(None, None).contains("from-the-file"));
    assert!(model_tried(Some("from-the-environment"), None).contains("from-the-environment"));
    assert!(
        model_tried(Some("from-the-environment"), Some("from-the-flag")).contains("from-the-flag")
    );
}

#[test]
fn load_errors_name_the_cause_and_what_to_do() {
    let state = state_dir();
    let state = state.path().to_str().unwrap();
    for (args, expected) in [
        (
            ["check", "-f", "no-such.toml"],
            "no-such.toml: cannot be read",
        ),
        (["check", "--model", "no-such-model"], "no-such-model"),
        (
            ["check", "--onnxruntime", "no-such-library.so"],
            "no-such-library.so",
        ),
        (
            ["check", "--device", "cuda"],
            "device `cuda` cannot be used",
        ),
        (["check", "--log", "info=nonsense=x"], "--log"),
    ] {
        let output = run(&[&args[..], &["--state-dir", state]].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let said = stderr(&output);
        let last = said.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("error: ") && last.contains(expected),
            "{args:?}: {said}"
        );
    }
}

#[test]
fn limits_with_which_nothing_is_served_are_refused() {
    for (option, value, expected) in [
        ("--header-timeout", "0s", "longer than zero"),
        ("--stats-retention", "0s", "longer than zero"),
        ("--max-connections", "0", "at least 1"),
        ("--max-instances", "0", "0 is not in 1.."),
    ] {
        let output = run(&["up", option, value]);
        assert_eq!(output.status.code(), Some(2), "{option}");
        let said = stderr(&output);
        assert!(
            said.contains(option) && said.contains(expected),
            "{option}: {said}"
        );
    }
}

#[test]
fn a_second_host_on_the_same_address_says_so() {
    let first = common::Host::start();
    let state = state_dir();
    let output = run(&[
        "up",
        "--listen",
        first.address(),
        "--state-dir",
        state.path().to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("choose another address with --listen"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_recordings_have_five_formats_and_the_stated_lengths() {
    for (name, magic) in [
        ("story.mp3", &b"\xff\xfb"[..]),
        ("numbers.wav", b"RIFF"),
        ("garden.flac", b"fLaC"),
        ("journey.ogg", b"OggS"),
    ] {
        let bytes = recording(name);
        assert!(
            bytes.starts_with(magic) || bytes.starts_with(b"ID3"),
            "{name}"
        );
    }
    assert_eq!(&recording("home.m4a")[4..8], b"ftyp");
    assert!(root().join("test/audio/make.py").exists());
}

/// Runs `scripts/setup.sh` in its own folder, with only these programs on the `PATH`.
fn set_up_with(programs: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("scripts")).unwrap();
    let script = folder.path().join("scripts/setup.sh");
    std::fs::copy(root().join("scripts/setup.sh"), &script).unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for name in ["dirname", "uname", "cat"].iter().chain(programs) {
        // Only the standard tools are run; the others need only exist.
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|path| path.join(name))
            .find(|path| path.exists());
        let program = found.unwrap_or_else(|| "/bin/true".into());
        std::os::unix::fs::symlink(program, bin.join(name)).unwrap();
    }
    let output = std::process::Command::new("/bin/sh")
        .arg(script)
        .env("PATH", bin)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    stderr(&output)
}

#[test]
fn setup_names_the_missing_prerequisite_in_one_line() {
    for (present, expected) in [
        (&[][..], "error: no Rust: "),
        (&["cargo"], "error: no C compiler: "),
        (&["cargo", "cc"], "error: no Python 3: "),
    ] {
        let said = set_up_with(present);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with(expected), "{said}");
    }
}
