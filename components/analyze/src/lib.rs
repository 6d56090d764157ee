//! The component `analyze`: speech in an HTTP request to text in its answer.
//!
//! ```text
//! request (entrance) -> body + options -> transcribe (frontend, inference) -> answer
//!                                                                          -> record (recorder)
//! ```
//!
//! [`transcribe`] does not know by which entrance a recording came, so that every entrance shares it. What is taken from
//! a request is in [`options`] and [`body`], what goes back in [`answer`] and [`failure`]; only `component` speaks HTTP.

pub mod answer;
pub mod arrival;
pub mod body;
pub mod failure;
pub mod options;
pub mod transcribe;

#[cfg(target_family = "wasm")]
mod component;

/// What the component imports, and the types of it.
pub mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({ world: "analyze", path: "../../wit", generate_all });
}
