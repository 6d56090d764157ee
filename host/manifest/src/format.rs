//! The host's additions to Spin's format: kinds of triggers, and grants under `[component.ID.tool.whisper-host]`.
//!
//! This crate does not define them: whoever implements one declares its fields.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

/// The kinds of triggers and the grants that a host supports.
#[derive(Debug, Clone, Default)]
pub struct Format {
    /// `[[trigger.NAME]]`.
    pub triggers: Vec<Section>,
    /// Fields of `[component.ID.tool.whisper-host]`.
    pub grants: Vec<Section>,
}

/// A part of the manifest that belongs to a trigger or a capability.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
    /// Checks it in its place in the text, so that the error has a location.
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

/// The names of the sections and of the other valid fields.
pub(super) fn valid<'n>(sections: &[Section], others: &[&'n str]) -> Vec<&'n str> {
    let sections = sections.iter().map(|section| section.name);
    sections.chain(others.iter().copied()).collect()
}
