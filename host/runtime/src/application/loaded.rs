//! A component of an application.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use manifest::{Digest, Variable};

use crate::engine::Component;
use crate::triggers::Handlers;

/// A loaded component with its origin.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) component: Arc<Component>,
    pub(super) handlers: Handlers,
    pub(super) origin: Arc<Origin>,
}

/// Everything that a component is made from.
#[derive(PartialEq)]
pub(super) struct Origin {
    pub(super) entry: manifest::Component,
    pub(super) variables: BTreeMap<String, Variable>,
    /// Digest of the bytes, composed with its dependencies.
    pub(super) wasm: Digest,
    pub(super) files: Option<PathBuf>,
}
