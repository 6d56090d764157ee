//! `whisper-host new`: creates a project for a handler.
//!
//! The projects are the examples of this repository under another name, with the interfaces of `wit/` added.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use include_dir::{Dir, include_dir};

use crate::output::outln;

#[derive(Args)]
pub struct New {
    /// Name of the project: lower-case letters, digits and `-`.
    pub name: String,

    /// Language of the project.
    #[arg(long, value_enum)]
    pub lang: Language,

    /// Folder to create. Default: the name, in the working folder.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Language {
    Rust,
    Javascript,
    Python,
}

static INTERFACES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wit");

/// The template of projects in one language.
struct Template {
    /// The example's name, which is replaced by the project's.
    example: &'static str,
    /// File name and content.
    files: &'static [(&'static str, &'static str)],
    /// Commands that build it, one per line.
    build: &'static str,
    /// Path of the built component.
    component: &'static str,
}

macro_rules! example {
    ($path:literal) => {
        include_str!(concat!("../../../../examples/", $path))
    };
}

fn template(language: Language) -> Template {
    match language {
        Language::Rust => Template {
            example: "word-count",
            files: &[
                ("Cargo.toml", RUST_PACKAGE),
                (".gitignore", "/target/\n"),
                ("src/lib.rs", example!("word-count/src/lib.rs")),
            ],
            build: "rustup target add wasm32-wasip2\ncargo build --release --target wasm32-wasip2",
            component: "target/wasm32-wasip2/release/word_count.wasm",
        },
        Language::Javascript => Template {
            example: "word-count-javascript",
            files: &[
                (
                    "package.json",
                    example!("word-count-javascript/package.json"),
                ),
                (
                    "package-lock.json",
                    example!("word-count-javascript/package-lock.json"),
                ),
                (".gitignore", "/node_modules/\n/*.wasm\n"),
                ("build.mjs", example!("word-count-javascript/build.mjs")),
                ("handler.js", example!("word-count-javascript/handler.js")),
            ],
            build: "npm ci\nnpm run build",
            component: "word-count-javascript.wasm",
        },
        Language::Python => Template {
            example: "word-count-python",
            files: &[
                (
                    "requirements.txt",
                    example!("word-count-python/requirements.txt"),
                ),
                (".gitignore", "/.venv/\n/*.wasm\n__pycache__/\n"),
                ("app.py", example!("word-count-python/app.py")),
            ],
            build: "python3 -m venv .venv\n.venv/bin/pip install -r requirements.txt\n.venv/bin/componentize-py -d wit -w speech:pipeline/transcriber componentize app -o word-count-python.wasm",
            component: "word-count-python.wasm",
        },
    }
}

/// Replaces the example's `Cargo.toml`, which is part of the repository's workspace.
const RUST_PACKAGE: &str = r#"[package]
name = "word-count"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[dependencies]
wit-bindgen = { version = "0.63", default-features = false, features = ["macros", "realloc", "std", "bitflags"] }

# A panic ends one request; unwinding tables would only make the component larger.
[profile.release]
panic = "abort"

# A workspace of its own, also inside of another's folder.
[workspace]
"#;

/// Creates the project, and prints the next steps.
///
/// # Errors
/// When the name is not valid for a component, or the folder is not empty.
pub fn run(options: &New) -> anyhow::Result<ExitCode> {
    let name = &options.name;
    check_name(name)?;
    let folder = options.dir.clone().unwrap_or_else(|| PathBuf::from(name));
    let empty = match std::fs::read_dir(&folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    anyhow::ensure!(
        empty,
        "{} already exists and is not an empty folder: choose another name, or another folder with --dir",
        folder.display()
    );
    let template = template(options.lang);
    for (file, content) in template.files {
        write(
            &folder.join(file),
            renamed(content, &template, name).as_bytes(),
        )?;
    }
    let next = next_steps(&template, name);
    let readme = format!(
        "# {name}\n\nA handler for whisper-host: `POST` a recording, and it responds with the number of words in it. What it may import \
         is in `wit/`.\n\n{}\n",
        indented(&next)
    );
    write(&folder.join("README.md"), readme.as_bytes())?;
    write_interfaces(&INTERFACES, &folder.join("wit"))?;
    outln!("created {}; next:\n", folder.display());
    outln!("{}", indented(&format!("cd {}\n{next}", folder.display())));
    Ok(ExitCode::SUCCESS)
}

/// Checks that a name is valid for packages of each language and for component ids.
fn check_name(name: &str) -> anyhow::Result<()> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    anyhow::ensure!(
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(allowed)
            && !name.ends_with('-')
            && name.len() <= 64,
        "\"{name}\" is not a name for a handler: use up to 64 lower-case letters, digits and `-`, with a letter in front"
    );
    Ok(())
}

/// Replaces the example's name by the project's, in Rust identifiers with `_` for `-`, and adapts the path of `wit/`.
fn renamed(text: &str, template: &Template, name: &str) -> String {
    text.replace(template.example, name)
        .replace(&template.example.replace('-', "_"), &name.replace('-', "_"))
        .replace("../../wit", "wit")
}

/// Returns the commands that build, deploy and call the project.
fn next_steps(template: &Template, name: &str) -> String {
    format!(
        "{}\nwhisper-host deploy {} --id {name} --route /{name} --ai-model whisper --dependency speech:pipeline/features=audio\n\
         curl --data-binary @RECORDING localhost:8000/{name}",
        renamed(template.build, template, name),
        renamed(template.component, template, name)
    )
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn write_interfaces(interfaces: &Dir<'_>, folder: &Path) -> anyhow::Result<()> {
    for file in interfaces.files() {
        write(&folder.join(file.path()), file.contents())?;
    }
    interfaces
        .dirs()
        .try_for_each(|below| write_interfaces(below, folder))
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let written = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, content)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_are_valid_for_packages_and_ids() {
        for name in ["a", "word-count", "v2"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "2a", "Word", "a_b", "a b", "-a", "a-", "../a"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
