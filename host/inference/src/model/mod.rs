//! What a model folder says about its model: which files to load, the sizes of things, and the vocabulary.
//!
//! Nothing here runs the model; nothing elsewhere reads the folder's JSON files.

mod config;
mod folder;
mod info;
mod json;
mod precision;
mod tokenizer;
mod tokens;
mod whisper;

pub(crate) use config::Dimensions;
pub(crate) use folder::{Contents, DecoderFiles, OnnxFiles, Weights};
pub(crate) use tokens::Vocabulary;
pub(crate) use whisper::Whisper;

pub use info::Model;
pub use precision::Precision;
