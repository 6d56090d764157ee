//! The tokio runtime.

use anyhow::Context as _;

/// Starts a tokio runtime on all cores.
///
/// # Errors
/// When its threads cannot be created.
pub fn start() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of the tokio runtime")
}
