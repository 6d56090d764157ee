//! `whisper-host schema`: what a manifest may hold, for editors that complete and check TOML.

use std::process::ExitCode;

use crate::say::say;

/// Prints the schema.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn run() -> anyhow::Result<ExitCode> {
    say!(
        "{}",
        serde_json::to_string_pretty(&manifest::schema(&runtime::format()))?
    );
    Ok(ExitCode::SUCCESS)
}
