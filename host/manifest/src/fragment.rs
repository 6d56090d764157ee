//! A deployed component with its triggers: a part of a manifest.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::component::Component;
use super::error::{readable, unknown_field};
use super::form::ShortOr;
use super::format::{Format, Section, valid};
use super::trigger::{Trigger, TriggerForm, common};

/// A `[component.ID]` with its triggers.
#[derive(Debug, Clone, PartialEq)]
pub struct Fragment {
    /// The component. Its source is an empty path, as its bytes are passed separately.
    pub component: Component,
    /// Its triggers; at least one.
    pub triggers: Vec<Trigger>,
}

/// A fragment as written: `trigger` and `component` as in a manifest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    trigger: BTreeMap<String, Vec<TriggerForm>>,
    component: BTreeMap<String, Component>,
}

impl Fragment {
    /// Parses the fragment of the component `id`, JSON with the same structure as a manifest:
    /// `{"component": {"ID": {…}}, "trigger": {"http": [{"route": "/…", "component": "ID"}]}}`, without a `source`.
    ///
    /// # Errors
    /// A message that says what is wrong, and what to write instead.
    pub fn from_json(id: &str, json: &Value, format: &Format) -> Result<Self, String> {
        let mut json = json.clone();
        let components = json.get_mut("component");
        let component = components.and_then(|components| components.get_mut(id));
        let Some(component) = component.and_then(Value::as_object_mut) else {
            return Err(format!("the manifest has no [component.{id}]"));
        };
        if component.contains_key("source") {
            return Err(
                "`source` is not allowed here: the component's bytes are sent with it".into(),
            );
        }
        component.insert("source".into(), "".into());
        let form: Form = toml::Value::try_from(&json)
            .map_err(|error| {
                format!("the manifest does not have the format of spin.toml: {error}")
            })?
            .try_into()
            .map_err(|error: toml::de::Error| readable(error.message(), &[]))?;
        let mut components = form.component;
        let component = components
            .remove(id)
            .ok_or_else(|| format!("the manifest has no [component.{id}]"))?;
        if let Some(other) = components.keys().next() {
            return Err(format!(
                "the manifest has a component {other} in addition to {id}: deploy one at a time"
            ));
        }
        let grants = &component.tool.whisper_host.grants;
        for (name, value) in grants {
            let section = section(&format.grants, &["limits"], name)?;
            (section.check_value)(value.clone()).map_err(|error| readable(error.message(), &[]))?;
        }
        let mut triggers = Vec::new();
        for (kind, entries) in form.trigger {
            for entry in entries {
                let section = section(&format.triggers, &[], &kind)?;
                (section.check_value)(entry.config.clone().into())
                    .map_err(|error| readable(error.message(), common(&error, &entry.config)))?;
                match entry.component {
                    Some(ShortOr::Short(other)) if other == id => {}
                    _ => {
                        return Err(format!(
                            "each trigger must name this component: `component = \"{id}\"`"
                        ));
                    }
                }
                triggers.push(Trigger {
                    kind: kind.clone(),
                    component: id.to_owned(),
                    config: entry.config,
                });
            }
        }
        if triggers.is_empty() {
            return Err(format!(
                "component {id} has no trigger: nothing would call it"
            ));
        }
        Ok(Self {
            component,
            triggers,
        })
    }
}

fn section<'s>(
    sections: &'s [Section],
    others: &[&str],
    name: &str,
) -> Result<&'s Section, String> {
    let mut known = sections.iter();
    known
        .find(|section| section.name == name)
        .ok_or_else(|| unknown_field(name, &valid(sections, others)))
}
