//! Valid and invalid manifests: `test/manifests/NAME.toml`, and for each invalid one `NAME.error` with the exact message.
//!
//! `UPDATE=1 cargo test --test manifests` regenerates the messages.

mod common;

use common::{root, state_dir, whisper_host};

#[test]
fn every_manifest_is_accepted_or_refused_with_the_expected_message() {
    let folder = root().join("test/manifests");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    names.sort();
    assert!(names.len() > 15, "the examples are missing");
    let state = state_dir();
    let mut wrong = Vec::new();
    for path in names {
        let relative = path.strip_prefix(root()).unwrap();
        let output = whisper_host()
            .args(["check", "--log", "error", "-f"])
            .arg(relative)
            .arg("--state-dir")
            .arg(state.path())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let expected_path = path.with_extension("error");
        let valid = path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("valid");
        if valid {
            if !output.status.success() {
                wrong.push(format!("{}: refused: {said}", relative.display()));
            }
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&expected_path, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
        if output.status.success() || said != expected {
            wrong.push(format!(
                "{}:\n  said     {said}  expected {expected}",
                relative.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
