//! The ticks of the engine's epoch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;

/// Time between two ticks of the epoch: how often a component that computes without end hands its thread back, and
/// the resolution of CPU budgets. Short, because others wait for that long behind it; with 10 ms, their 99th percentile beside
/// a hostile component was twice what it is undisturbed (bench/, `hostile`).
const TICK: Duration = Duration::from_millis(5);

/// Ticks until it is dropped.
pub(super) struct Ticker(Arc<AtomicBool>);

impl Ticker {
    /// Starts a thread of its own: it must run even when every thread of the scheduler is busy.
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
