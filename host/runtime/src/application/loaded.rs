//! A component of an application.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use manifest::{Digest, Variable};

use crate::engine::Component;
use crate::triggers::Handlers;

/// A component of an application, and what it was made of.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) component: Arc<Component>,
    pub(super) handlers: Handlers,
    pub(super) origin: Arc<Origin>,
}

/// All that a component is made of.
#[derive(PartialEq)]
pub(super) struct Origin {
    pub(super) entry: manifest::Component,
    pub(super) variables: BTreeMap<String, Variable>,
    /// Composed with its dependencies.
    pub(super) wasm: Digest,
    pub(super) files: Option<PathBuf>,
}
