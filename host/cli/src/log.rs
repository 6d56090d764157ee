//! The log: structured, on standard error; text for people, JSON for machines.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// Starts logging.
///
/// # Errors
/// When the filter is malformed.
pub fn start(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    // ONNX Runtime says at `info` what it does to each node of each model, and the hub's client at `error` what it then returns
    // as one. A directive of the user's goes before these.
    let filter = EnvFilter::builder()
        .parse(format!("ort=warn,hf_hub=off,{filter}"))
        .with_context(|| {
            format!("--log: \"{filter}\" is neither a level nor a list of directives")
        })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
