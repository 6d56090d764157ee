//! Everything about a model but its sessions.

use super::config::Dimensions;
use super::info::Model;
use super::tokens::Vocabulary;

/// What the engine, its thread and its transcriptions know of the model.
pub(crate) struct Whisper {
    pub info: Model,
    pub dimensions: Dimensions,
    pub vocabulary: Vocabulary,
}
