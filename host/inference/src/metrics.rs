//! Metrics of an engine, with its model's name as the label `model`.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// Label with the name of the model.
pub const MODEL: &str = "model";

/// Gauge: transcriptions started and not yet dropped.
pub const TRANSCRIPTIONS_ACTIVE: &str = "whisper_host_transcriptions_active";
/// Gauge: windows waiting for a batch.
pub const WINDOWS_WAITING: &str = "whisper_host_windows_waiting";
/// Counter: windows decoded.
pub const WINDOWS: &str = "whisper_host_windows_total";
/// Counter: batches of windows decoded.
pub const BATCHES: &str = "whisper_host_batches_total";
/// Counter: tokens computed, including those of all hypotheses.
pub const TOKENS: &str = "whisper_host_tokens_total";
/// Counter: frames pushed; a second of audio has [`Model::frames_per_second`](crate::Model::frames_per_second).
pub const FRAMES_PUSHED: &str = "whisper_host_frames_pushed_total";
/// Counter: frames done: decoded, or skipped as silence.
pub const FRAMES_DONE: &str = "whisper_host_frames_done_total";
/// Histogram: seconds of an encoder run.
pub const ENCODER_DURATION: &str = "whisper_host_encoder_duration_seconds";
/// Histogram: seconds of decoding a batch at one temperature.
pub const DECODER_DURATION: &str = "whisper_host_decoder_duration_seconds";

/// Handles of an engine's metrics.
pub(crate) struct Metrics {
    pub transcriptions_active: Gauge,
    pub windows_waiting: Gauge,
    pub windows: Counter,
    pub batches: Counter,
    pub tokens: Counter,
    pub frames_pushed: Counter,
    pub frames_done: Counter,
    pub encoder_duration: Histogram,
    pub decoder_duration: Histogram,
}

impl Metrics {
    pub fn new(model: &str) -> Self {
        let labels = [(MODEL, model.to_owned())];
        Self {
            transcriptions_active: gauge!(TRANSCRIPTIONS_ACTIVE, &labels),
            windows_waiting: gauge!(WINDOWS_WAITING, &labels),
            windows: counter!(WINDOWS, &labels),
            batches: counter!(BATCHES, &labels),
            tokens: counter!(TOKENS, &labels),
            frames_pushed: counter!(FRAMES_PUSHED, &labels),
            frames_done: counter!(FRAMES_DONE, &labels),
            encoder_duration: histogram!(ENCODER_DURATION, &labels),
            decoder_duration: histogram!(DECODER_DURATION, &labels),
        }
    }
}
