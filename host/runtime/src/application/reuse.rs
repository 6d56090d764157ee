//! Which loaded components the next application reuses.

use manifest::Manifest;

use super::loaded::Loaded;
use super::served::Application;

/// Which components of an application are reused. Requests in flight keep counting against the limits of a reused component.
#[derive(Clone, Copy)]
pub enum Reuse<'a> {
    /// None.
    Nothing,
    /// All but the component with this id and those composed with it.
    Except(&'a Application, &'a str),
    /// Those with the same bytes, files, variables and manifest entry.
    Unchanged(&'a Application),
}

impl<'a> Reuse<'a> {
    /// Returns the component with this id, if it can be reused without comparing origins.
    pub(super) fn unconditional(self, manifest: &Manifest, id: &str) -> Option<&'a Loaded> {
        match self {
            Self::Except(application, changed)
                if changed != id && !manifest.depends(id, changed) =>
            {
                application.loaded(id)
            }
            _ => None,
        }
    }

    /// Returns the component with this id, if it can be reused when its origin equals that of the next one.
    pub(super) fn candidate(self, id: &str) -> Option<&'a Loaded> {
        match self {
            Self::Except(application, changed) if changed != id => application.loaded(id),
            Self::Unchanged(application) => application.loaded(id),
            _ => None,
        }
    }
}
