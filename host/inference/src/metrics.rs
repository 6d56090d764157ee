//! Metrics of an engine, with its model's name as the label `model`.

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

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
/// Histogram: windows in a batch.
pub const BATCH_WINDOWS: &str = "whisper_host_batch_windows";
/// Histogram: seconds that a window waited for its batch.
pub const WINDOW_QUEUE_DURATION: &str = "whisper_host_window_queue_duration_seconds";
/// Histogram: seconds of audio of a completed transcription.
pub const AUDIO_DURATION: &str = "whisper_host_audio_duration_seconds";
/// Histogram: seconds from the start of a transcription to its last segment.
pub const TRANSCRIPTION_DURATION: &str = "whisper_host_transcription_duration_seconds";
/// Histogram: real-time factor of a completed transcription: its duration by that of its audio.
pub const REAL_TIME_FACTOR: &str = "whisper_host_transcription_real_time_ratio";

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
    pub batch_windows: Histogram,
    pub window_queue_duration: Histogram,
    pub audio_duration: Histogram,
    pub transcription_duration: Histogram,
    pub real_time_factor: Histogram,
}

impl Metrics {
    pub fn new(model: &str) -> Self {
        describe();
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
            batch_windows: histogram!(BATCH_WINDOWS, &labels),
            window_queue_duration: histogram!(WINDOW_QUEUE_DURATION, &labels),
            audio_duration: histogram!(AUDIO_DURATION, &labels),
            transcription_duration: histogram!(TRANSCRIPTION_DURATION, &labels),
            real_time_factor: histogram!(REAL_TIME_FACTOR, &labels),
        }
    }
}

fn describe() {
    describe_gauge!(TRANSCRIPTIONS_ACTIVE, "Transcriptions in progress.");
    describe_gauge!(WINDOWS_WAITING, "Windows of audio that wait for a batch.");
    describe_counter!(WINDOWS, "Windows of audio that were decoded.");
    describe_counter!(BATCHES, "Batches of windows that were decoded.");
    describe_counter!(
        TOKENS,
        "Tokens that were computed, including those of all hypotheses."
    );
    describe_counter!(FRAMES_PUSHED, "Log-mel frames that were received.");
    describe_counter!(
        FRAMES_DONE,
        "Log-mel frames that were decoded, or skipped as silence."
    );
    describe_histogram!(ENCODER_DURATION, "Duration of encoder runs, in seconds.");
    describe_histogram!(
        DECODER_DURATION,
        "Duration of decoding a batch at one temperature, in seconds."
    );
    describe_histogram!(BATCH_WINDOWS, "Windows of audio per batch.");
    describe_histogram!(
        WINDOW_QUEUE_DURATION,
        "How long windows of audio waited for a batch, in seconds."
    );
    describe_histogram!(
        AUDIO_DURATION,
        "Length of the audio of completed transcriptions, in seconds."
    );
    describe_histogram!(
        TRANSCRIPTION_DURATION,
        "Time from the start of completed transcriptions to their last segment, in seconds."
    );
    describe_histogram!(
        REAL_TIME_FACTOR,
        "Real-time factor of completed transcriptions: their duration by that of their audio."
    );
}
