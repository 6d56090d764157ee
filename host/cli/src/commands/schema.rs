//! `whisper-host schema`: prints the JSON schema of manifests, for editors.

use std::process::ExitCode;

use crate::output::outln;

/// Prints the schema.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn run() -> anyhow::Result<ExitCode> {
    outln!(
        "{}",
        serde_json::to_string_pretty(&manifest::schema(&runtime::format()))?
    );
    Ok(ExitCode::SUCCESS)
}
