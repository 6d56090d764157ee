//! The resource `transcription` of `speech:pipeline/inference`.

/// One recording that is being transcribed, and the id of its model.
pub struct Transcription {
    pub(super) model: String,
    pub(super) inner: inference::Transcription,
}
