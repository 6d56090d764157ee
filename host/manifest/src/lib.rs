//! The application's manifest, `spin.toml`: the subset of Spin's manifest version 2 that this host supports.
//!
//! Parsing never panics. Every error names the file, the line and, for a misspelt field, the nearest valid name.
//!
//! This crate knows the format of the file and nothing about components: the loader checks whether a source exists, and a [`Section`]
//! declares the fields of a trigger or of one of the host's own grants.

mod application;
mod checks;
mod component;
mod error;
mod files;
mod form;
mod format;
mod fragment;
mod id;
mod limits;
mod manifest;
mod place;
mod source;
mod trigger;
mod variable;

pub use application::Application;
pub use component::{Component, Dependency, Implementation, Settings, Tools};
pub use error::ManifestError;
pub use files::{Files, FilesError, Pattern, Placement};
pub use form::ShortOr;
pub use format::{Format, Section};
pub use fragment::Fragment;
pub use id::invalid_id;
pub use limits::Limits;
pub use manifest::{Manifest, schema};
pub use source::{Digest, Package, Reference, Source};
pub use trigger::Trigger;
pub use variable::{Template, TemplateError, Variable, invalid_name};
