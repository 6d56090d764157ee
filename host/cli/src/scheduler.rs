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

/// Runs long work on a blocking thread, so that signals are still handled.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("loading was aborted")?
}
