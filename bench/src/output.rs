//! Responses on standard output.

use std::io::Write as _;

use serde_json::Value;

/// Prints a response: one line.
pub fn print(value: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}
