//! Models by name: which repository a name stands for, where its files are, and verified downloads of them.
//!
//! Files come from the Hugging Face hub and are kept in the hub's own cache, in its own layout. So files that other programs have
//! pulled are used as they are, and the other way round. This module knows which files make a model; it does not read them.
//!
//! `hf-hub` speaks to the hub. It does not resume a download, and does not compare a file with the digest that the hub states:
//! both is done here.

mod cache;
mod error;
mod hub;
mod names;
mod pull;
mod repository;
mod selection;
mod store;

pub use error::Error;
pub use names::KNOWN;
pub use repository::Repository;
pub use selection::Precision;
pub use store::{Listed, Located, Store, repository_of};
