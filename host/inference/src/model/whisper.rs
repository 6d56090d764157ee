//! Everything about a model except its sessions.

use super::config::Dimensions;
use super::info::Model;
use super::tokens::Vocabulary;

/// The model data shared by the engine, its thread and its transcriptions.
pub(crate) struct Whisper {
    pub info: Model,
    pub dimensions: Dimensions,
    pub vocabulary: Vocabulary,
}
