//! What the host adds to Spin's format: kinds of triggers, and grants under `[component.ID.tool.whisper-host]`.
//!
//! The crate knows neither of them: whoever implements one says which fields it has.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

/// The kinds of triggers and the grants that a host has.
#[derive(Debug, Clone, Default)]
pub struct Format {
    /// `[[trigger.NAME]]`.
    pub triggers: Vec<Section>,
    /// `[component.ID.tool.whisper-host]`, each by the name of its field.
    pub grants: Vec<Section>,
}

/// A part of the manifest that belongs to a trigger or a capability.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
    /// Checks it where it stands in a text, so that the error has a place.
    pub(super) check: fn(Spanned<DeValue<'_>>) -> Result<(), toml::de::Error>,
    pub(super) check_value: fn(toml::Value) -> Result<(), toml::de::Error>,
}

impl Section {
    /// A section with the fields of `T`.
    #[must_use]
    pub fn of<T: DeserializeOwned + JsonSchema>(name: &'static str) -> Self {
        Self {
            name,
            schema: |generator| generator.subschema_for::<T>(),
            check: |value| T::deserialize(ValueDeserializer::from(value)).map(drop),
            check_value: |value| value.try_into::<T>().map(drop),
        }
    }
}

/// The names of sections, and of the fields beside them.
pub(super) fn valid<'n>(sections: &[Section], others: &[&'n str]) -> Vec<&'n str> {
    let sections = sections.iter().map(|section| section.name);
    sections.chain(others.iter().copied()).collect()
}
