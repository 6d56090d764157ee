//! The ticker of the engine's epoch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;

/// Interval between ticks: how often a component that never stops computing yields its thread, and the resolution of CPU limits.
/// It is short because other requests wait that long; with 10 ms, their 99th percentile next to a hostile component was twice the
/// undisturbed one (bench/, `hostile`).
const TICK: Duration = Duration::from_millis(5);

/// Increments the epoch until dropped.
pub(super) struct Ticker(Arc<AtomicBool>);

impl Ticker {
    /// Starts a dedicated thread, which runs even when all runtime threads are busy.
    pub(super) fn start(engine: &wasmtime::Engine) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let ticker = Self(Arc::clone(&stop));
        let engine = engine.weak();
        std::thread::Builder::new()
            .name("epoch".into())
            .spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(TICK);
                    match engine.upgrade() {
                        Some(engine) => engine.increment_epoch(),
                        None => break,
                    }
                }
            })
            .context("cannot start the epoch thread")?;
        Ok(ticker)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
