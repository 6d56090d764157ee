//! WebAssembly: the engine, and the components that it runs. Independent of protocols: triggers decide what a component must
//! export.

mod cache;
mod compile;
mod component;
mod compose;
mod config;
mod cpu;
mod current;
mod functions;
mod instance;
mod limiter;
mod outline;
mod output;
mod shared;
mod ticker;

pub use cache::MAX_CODE_CACHE;
pub use compile::{COMPILE_COMPONENT, compile_component};
pub(crate) use component::{Component, InstancePermit, Started};
pub(crate) use compose::{Part, compose};
pub(crate) use current::{Current, lock};
pub(crate) use instance::InstanceState;
pub use outline::Outline;
pub(crate) use shared::Engine;
