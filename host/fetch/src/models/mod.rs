//! Models by name: what a name stands for, where its files are, and verified downloads of them.
//!
//! Files come from the Hugging Face hub and are kept in the hub's own cache, in its own layout, so what other programs have fetched
//! is used as it is, and they use what is fetched here. This module knows which files make a model; it does not read them.
//!
//! `hf-hub` speaks to the hub. What it does not do is here: to go on with a download that broke off, and to compare every
//! file with the digest that the hub states before it counts as there.

mod cache;
mod digest;
mod download;
mod error;
mod hub;
mod names;
mod repository;
mod selection;
mod store;

pub use error::Error;
pub use names::KNOWN;
pub use repository::Repository;
pub use selection::Precision;
pub use store::{Listed, Located, Store, repository_of};
