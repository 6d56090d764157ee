//! From a manifest to a running application of WebAssembly components.
//!
//! A [`Host`] has the engine and the [`capabilities`] it lends; it loads a [`Manifest`](manifest::Manifest) into an
//! [`Application`]; a [`Server`](http::Server) brings requests to it. Components run sandboxed: each reaches only what its
//! manifest entry grants, within its [`Limits`](manifest::Limits), and none can hurt another's requests.
//!
//! wasmtime's types are named in `engine/` and `capabilities/` only.

mod application;
pub mod capabilities;
pub mod deployment;
mod engine;
pub mod error;
pub mod http;
pub mod manifest;
pub mod sources;
mod state;
mod timer;

pub use application::{Application, ComponentReport, Host, Present, files_of};
pub use engine::body::AnswerBody;
pub use engine::component::Handler;
pub use engine::figures::{Figures, Line};
pub use engine::{COMPILE_COMPONENT, MAX_CODE_CACHE, compile_component};
pub use state::prune;
