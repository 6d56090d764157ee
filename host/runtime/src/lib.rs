//! Runs applications of WebAssembly components, described by a manifest.
//!
//! A [`Host`] owns the engine and the [`capabilities`] that components may be granted. It loads a
//! [`Manifest`](manifest::Manifest) into an [`Application`], whose components are called by [`triggers`]. Components run
//! sandboxed: each reaches only what its manifest entry grants, within its [`Limits`](manifest::Limits), and none can harm
//! another's requests.
//!
//! wasmtime's types are named in `engine/`, `capabilities/` and `triggers/` only.

pub mod admin;
mod application;
pub mod capabilities;
pub mod deployment;
mod engine;
pub mod error;
mod format;
mod http;
mod invocation;
mod role;
mod subject;
mod text;
pub mod triggers;
mod webhooks;

pub use application::{Application, ComponentReport, Host, HostConfig, Reuse, files_of};
pub use engine::{COMPILE_COMPONENT, MAX_CODE_CACHE, Outline, compile_component};
pub use format::format;
pub use invocation::{Line, Snapshot};
pub use role::Role;
pub use webhooks::Webhooks;
