//! The resource `transcription` of `speech:pipeline/inference`.

/// A transcription in progress, and the id of its model.
pub struct Transcription {
    pub(super) model: String,
    pub(super) inner: inference::Transcription,
    /// Whether it was logged why the model failed.
    pub(super) failure_reported: bool,
}
