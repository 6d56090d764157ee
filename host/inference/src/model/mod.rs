//! Reads a model folder: the files to load, the model's dimensions, and its vocabulary.
//!
//! Nothing here runs the model, and nothing else reads the folder's JSON files.

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
