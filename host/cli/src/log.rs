//! The log: structured, on standard error; text for people, JSON for machines.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::args::{Common, LogFormat};

/// Starts logging.
///
/// # Errors
/// When the filter is malformed.
pub fn start(common: &Common) -> anyhow::Result<()> {
    // ONNX Runtime says at `info` what it does to each node of each model. A directive of the user's goes before this one.
    let filter = EnvFilter::builder()
        .parse(format!("ort=warn,{}", common.log))
        .with_context(|| {
            format!(
                "--log: \"{}\" is neither a level nor a list of directives",
                common.log
            )
        })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match common.log_format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
