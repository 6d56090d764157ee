//! `[[trigger.KIND]]`: the triggers that call a component.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::component::Component;
use super::error::unknown;
use super::form::ShortOr;

/// An entry of `[[trigger.KIND]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// The kind: `http`.
    pub kind: String,
    /// The component's id.
    pub component: String,
    /// The other fields, which depend on the kind; see [`crate::Format`].
    pub config: toml::Table,
}

/// The fields that are valid in addition to those listed in an error about an entry's `config`: [`COMMON`], unless the error is about
/// a nested table.
pub(super) fn common(error: &toml::de::Error, config: &toml::Table) -> &'static [&'static str] {
    match unknown(error.message()).is_some_and(|field| config.contains_key(field)) {
        true => &COMMON,
        false => &[],
    }
}

/// An entry as written in the manifest.
#[derive(Debug)]
pub(super) struct TriggerForm {
    /// The component's id, or an inline component with the fields of `[component.ID]`. Required, but errors in the other fields are
    /// reported first.
    pub(super) component: Option<ShortOr<Box<Component>>>,
    pub(super) config: toml::Table,
}

/// The trigger's name. Read by Spin, not by this host.
const ID: &str = "id";
pub(super) const COMPONENT: &str = "component";

/// Fields that all kinds have.
pub(super) const COMMON: [&str; 2] = [ID, COMPONENT];

impl<'de> Deserialize<'de> for TriggerForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = TriggerForm;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with `component`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TriggerForm, A::Error> {
                let mut component = None;
                let mut config = toml::Table::new();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        ID => {
                            map.next_value::<IgnoredAny>()?;
                        }
                        COMPONENT => component = Some(map.next_value()?),
                        _ => {
                            config.insert(name, map.next_value()?);
                        }
                    }
                }
                Ok(TriggerForm { component, config })
            }
        }

        deserializer.deserialize_map(Fields)
    }
}
