//! Measures how long a window takes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Weight of the last batch in the mean.
const WEIGHT: f64 = 0.2;

/// Seconds per window: an exponentially weighted mean over the last batches, 0 before the first. Written by one thread.
#[derive(Default)]
pub(super) struct Pace(AtomicU64);

impl Pace {
    pub fn add(&self, windows: usize, time: Duration) {
        let last = time.as_secs_f64() / windows.max(1) as f64;
        let mean = match self.seconds() {
            0.0 => last,
            mean => mean + WEIGHT * (last - mean),
        };
        self.0.store(mean.to_bits(), Relaxed);
    }

    pub fn seconds(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_the_last_batches() {
        let pace = Pace::default();
        assert_eq!(pace.seconds(), 0.0);
        pace.add(4, Duration::from_secs(8));
        assert_eq!(pace.seconds(), 2.0);
        pace.add(1, Duration::from_secs(7));
        assert_eq!(pace.seconds(), 3.0);
    }
}
