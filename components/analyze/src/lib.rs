//! The component `analyze`: transcribes the recording in an HTTP request or a message.
//!
//! ```text
//! request (trigger) -> form + options -> transcribe (features, inference) -> answer
//!                                                                         -> record (calls)
//! ```
//!
//! Request options are in [`options`], the response in [`answer`]; only `component` depends on the triggers. Forms are read and
//! recordings transcribed by the library `components/shared`.

pub mod answer;
pub mod options;

#[cfg(target_family = "wasm")]
mod component;
