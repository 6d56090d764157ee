//! The scheduler of asynchronous work.

use anyhow::Context as _;

/// Starts a tokio runtime on all cores.
///
/// # Errors
/// When the system gives no threads.
pub fn start() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the scheduler's threads")
}
