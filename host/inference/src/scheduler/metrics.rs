//! What the scheduler has done so far, in numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A snapshot of the engine's counters. All but the first two only grow.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Metrics {
    /// Transcriptions that have been started and not dropped.
    pub transcriptions: u64,
    /// Windows that wait to be decoded.
    pub queued_windows: u64,
    /// Windows decoded.
    pub windows: u64,
    /// Batches these windows were decoded in.
    pub batches: u64,
    /// Seconds spent in the encoder.
    pub encoder_seconds: f64,
    /// Seconds spent in the decoder.
    pub decoder_seconds: f64,
    /// Tokens computed, those of all hypotheses.
    pub tokens: u64,
    /// Seconds of audio pushed.
    pub pushed_seconds: f64,
    /// Seconds of audio that need no more work: decoded, or passed over as silence.
    pub done_seconds: f64,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub windows: AtomicU64,
    pub batches: AtomicU64,
    pub tokens: AtomicU64,
    pub pushed_frames: AtomicU64,
    pub done_frames: AtomicU64,
    encoder_nanos: AtomicU64,
    decoder_nanos: AtomicU64,
}

impl Counters {
    pub fn add_encoder(&self, time: Duration) {
        self.encoder_nanos.fetch_add(nanos(time), Relaxed);
    }

    pub fn add_decoder(&self, time: Duration) {
        self.decoder_nanos.fetch_add(nanos(time), Relaxed);
    }

    pub fn snapshot(
        &self,
        transcriptions: usize,
        queued_windows: usize,
        frames_per_second: f64,
    ) -> Metrics {
        let audio = |frames: &AtomicU64| frames.load(Relaxed) as f64 / frames_per_second;
        let seconds = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Relaxed)).as_secs_f64();
        Metrics {
            transcriptions: transcriptions as u64,
            queued_windows: queued_windows as u64,
            windows: self.windows.load(Relaxed),
            batches: self.batches.load(Relaxed),
            encoder_seconds: seconds(&self.encoder_nanos),
            decoder_seconds: seconds(&self.decoder_nanos),
            tokens: self.tokens.load(Relaxed),
            pushed_seconds: audio(&self.pushed_frames),
            done_seconds: audio(&self.done_frames),
        }
    }
}

/// 584 years fit.
fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
