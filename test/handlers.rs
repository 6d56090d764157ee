//! The example handlers in every language: created by `new` or built in this repository, then deployed and called.

mod common;

use std::path::Path;
use std::process::Output;

use common::{Host, component, recording, said_in, whisper_host};

/// Deploys a word counter to the default application, and sends it a recording and text.
async fn counts_words(name: &str) {
    let host = Host::start();
    let (file, route) = (component(name), format!("/{name}"));
    let mut command = whisper_host();
    command
        .args(["deploy", &file, "--route", &route, "--ai-model", "whisper"])
        .args(["--dependency", "speech:pipeline/features=audio"])
        .args(["--admin", &host.admin]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let words = said_in("garden.flac").len();
    let counted = host.post(&route, recording("garden.flac")).await;
    assert_eq!((counted.status, counted.text), (200, format!("{words}\n")));
    let refused = host.post(&route, "this is no recording").await;
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("send WAV"), "{}", refused.text);
}

#[tokio::test]
async fn a_handler_in_rust_for_wasi_0_2_counts_words() {
    counts_words("word-count").await;
}

/// Built as a separate project, with the latest versions of its dependencies.
#[tokio::test]
async fn a_handler_in_rust_created_by_new_counts_words() {
    counts_words("word-count-rust").await;
}

#[tokio::test]
async fn a_handler_in_rust_for_wasi_0_3_counts_words() {
    counts_words("word-count-p3").await;
}

#[tokio::test]
async fn a_handler_in_javascript_counts_words() {
    counts_words("word-count-javascript").await;
}

#[tokio::test]
async fn a_handler_in_python_counts_words() {
    counts_words("word-count-python").await;
}

fn new(folder: &Path, args: &[&str]) -> Output {
    let mut command = whisper_host();
    command.current_dir(folder).arg("new").args(args);
    command.output().unwrap()
}

#[test]
fn new_creates_a_project_with_the_given_name() {
    let folder = tempfile::tempdir().unwrap();
    for (language, main) in [
        ("rust", "src/lib.rs"),
        ("javascript", "handler.js"),
        ("python", "app.py"),
    ] {
        let name = format!("my-{language}");
        let output = new(folder.path(), &[&name, "--lang", language]);
        assert!(output.status.success());
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            said.contains(&format!("--id {name} --route /{name}")),
            "{said}"
        );
        let project = folder.path().join(&name);
        for file in [main, "README.md", "wit/world.wit", "wit/deps/http.wit"] {
            let text = std::fs::read_to_string(project.join(file)).unwrap();
            assert!(
                !text.contains("word-count") && !text.contains("../"),
                "{file}: {text}"
            );
        }
    }
    let package = std::fs::read_to_string(folder.path().join("my-rust/Cargo.toml")).unwrap();
    assert!(package.contains("name = \"my-rust\""), "{package}");
}

#[test]
fn new_overwrites_nothing_and_requires_a_valid_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("mine")).unwrap();
    std::fs::write(folder.path().join("mine/precious"), "").unwrap();
    for (name, expected) in [("mine", "already exists"), ("My Handler", "lower-case")] {
        let output = new(folder.path(), &[name, "--lang", "python"]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(
        std::fs::read_dir(folder.path().join("mine"))
            .unwrap()
            .count(),
        1
    );
}
