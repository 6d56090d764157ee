//! The application's manifest, `spin.toml`: Spin's manifest version 2, the subset that applies here.
//!
//! Parsing never panics; every error names the file, the line and, for a misspelt field, the nearest valid name.
//! This crate knows the file's form and nothing of components: whether a source exists is the loader's business, and what a trigger
//! or a grant of the host's own has as fields, its [`Section`] says.

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
