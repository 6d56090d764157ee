//! Common code of speech handlers: reading a request with a recording ([`form`]), transcribing it ([`transcribe()`]), and
//! responding in JSON ([`http`], [`failure`]).

pub mod arrival;
pub mod bindings;
pub mod failure;
pub mod form;
#[cfg(target_family = "wasm")]
pub mod http;
#[cfg(target_family = "wasm")]
pub mod recording;
mod transcribe;

pub use transcribe::{CallInfo, transcribe};
