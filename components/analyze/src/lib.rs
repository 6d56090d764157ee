//! The component `analyze`: speech in an HTTP request to text in its answer.
//!
//! ```text
//! request (trigger) -> form + options -> transcribe (features, inference) -> answer
//!                                                                         -> record (calls)
//! ```
//!
//! What it takes from a request is in [`options`], what goes back in [`answer`]; only `component` knows by which trigger a recording
//! came. Reading forms and transcribing are the library's, `components/shared`.

pub mod answer;
pub mod options;

#[cfg(target_family = "wasm")]
mod component;
