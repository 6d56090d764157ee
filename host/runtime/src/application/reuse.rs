//! What of the application that is served can be taken over into the next one.

use manifest::Manifest;

use super::loaded::Loaded;
use super::served::Application;

/// Which components of an application are taken over as they are. They go on to count the requests under way against their limits.
#[derive(Clone, Copy)]
pub enum Reuse<'a> {
    /// None.
    Nothing,
    /// All but the one of this id, and those composed with it.
    Except(&'a Application, &'a str),
    /// Those that are made of the same bytes, files, variables and manifest entry.
    Unchanged(&'a Application),
}

impl<'a> Reuse<'a> {
    /// The component of this id that can be taken over without a look at what it is made of.
    pub(super) fn certain(self, manifest: &Manifest, id: &str) -> Option<&'a Loaded> {
        match self {
            Self::Except(application, changed)
                if changed != id && !manifest.depends(id, changed) =>
            {
                application.loaded(id)
            }
            _ => None,
        }
    }

    /// The component of this id, if it can be taken over when it is made of the same as the next one.
    pub(super) fn possible(self, id: &str) -> Option<&'a Loaded> {
        match self {
            Self::Except(application, changed) if changed != id => application.loaded(id),
            Self::Unchanged(application) => application.loaded(id),
            _ => None,
        }
    }
}
