//! Locations of values in the text of a manifest.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A step from a table to one of its values, or from an array to one of its elements.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Field(String),
    Index(usize),
    /// The name of a field, instead of its value.
    Name(String),
}

/// A path from the root.
pub(super) type Path = Vec<Step>;

pub(super) fn field(name: impl Into<String>) -> Step {
    Step::Field(name.into())
}

/// Returns the value at a path.
pub(super) fn find<'t, 'i>(
    root: &'t DeTable<'i>,
    path: &[Step],
) -> Option<&'t Spanned<DeValue<'i>>> {
    let (first, rest) = path.split_first()?;
    let Step::Field(name) = first else {
        return None;
    };
    rest.iter()
        .try_fold(root.get(name.as_str())?, |value, step| match step {
            Step::Field(name) => value.get_ref().as_table()?.get(name.as_str()),
            Step::Index(index) => value.get_ref().as_array()?.get(*index),
            Step::Name(_) => None,
        })
}

/// Returns the location of the value or name at a path.
pub(super) fn span(root: &DeTable<'_>, path: &[Step]) -> Option<Range<usize>> {
    if let Some((Step::Name(name), above)) = path.split_last() {
        let table = match above {
            [] => root,
            above => find(root, above)?.get_ref().as_table()?,
        };
        return table
            .get_key_value(name.as_str())
            .map(|(key, _)| key.span());
    }
    find(root, path).map(Spanned::span)
}
