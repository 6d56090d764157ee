//! A whole manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::{Value, json};
use toml::de::DeTable;

use super::application::Application;
use super::checks::{self, Problem};
use super::component::Component;
use super::error::ManifestError;
use super::form::ShortOr;
use super::format::{Format, Section, valid};
use super::id::invalid_id;
use super::place::{self, Step, field};
use super::trigger::{COMMON, COMPONENT, Trigger, TriggerForm, common};
use super::variable::Variable;

/// A whole manifest, checked for internal consistency.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The folder that relative paths are relative to.
    pub folder: PathBuf,
    /// `[application]`.
    pub application: Application,
    /// `[variables]`, by name.
    pub variables: BTreeMap<String, Variable>,
    /// `[[trigger.KIND]]`, in the order of the file.
    pub triggers: Vec<Trigger>,
    /// `[component.ID]`, by id, including the inline components of triggers.
    pub components: BTreeMap<String, Component>,
}

/// An application of WebAssembly components: Spin's manifest version 2, the subset that this host supports.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "spin.toml for whisper-host")]
struct File {
    /// The version of the manifest format: 2.
    #[schemars(range(min = 2, max = 2))]
    spin_manifest_version: u32,
    /// The application's metadata and settings.
    application: Application,
    /// Values that the operator may set, as environment variables `SPIN_VARIABLE_NAME`.
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
    /// Which events go to which component.
    #[schemars(with = "BTreeMap<String, Vec<Value>>")]
    trigger: BTreeMap<String, Vec<TriggerForm>>,
    /// The components, by id.
    #[serde(default)]
    component: BTreeMap<String, Component>,
}

const VERSION: &str = "spin_manifest_version";

/// The JSON schema of a manifest, for editors.
#[must_use]
pub fn schema(format: &Format) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut part = |section: &Section| (section.schema)(&mut generator).to_value();
    let grants: Vec<(&str, Value)> = format.grants.iter().map(|s| (s.name, part(s))).collect();
    let triggers: Vec<(&str, Value)> = format.triggers.iter().map(|s| (s.name, part(s))).collect();
    let component = generator.subschema_for::<ShortOr<Component>>().to_value();
    let mut schema = generator.into_root_schema_for::<File>().to_value();
    for (name, grant) in grants {
        schema["$defs"]["Settings"]["properties"][name] = grant;
    }
    let mut kinds = serde_json::Map::new();
    for (name, trigger) in triggers {
        // Add the fields that all kinds have to this kind's definition.
        let definition = trigger["$ref"]
            .as_str()
            .and_then(|path| path.rsplit('/').next());
        if let Some(definition) = definition {
            let definition = &mut schema["$defs"][definition];
            definition["properties"]["id"] = json!({
                "description": "The trigger's name. Read by Spin, not by this host.",
                "type": "string",
            });
            definition["properties"][COMPONENT] = component.clone();
            if let Some(required) = definition["required"].as_array_mut() {
                required.push(COMPONENT.into());
            }
        }
        kinds.insert(name.to_owned(), json!({"type": "array", "items": trigger}));
    }
    schema["properties"]["trigger"] = json!({
        "description": "Which events go to which component.",
        "type": "object",
        "properties": kinds,
        "additionalProperties": false,
    });
    schema
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// If the file cannot be read, is not TOML, has an unknown or missing field, or is inconsistent.
    pub fn read(path: &Path, format: &Format) -> Result<Self, ManifestError> {
        let text =
            std::fs::read_to_string(path).map_err(|e| ManifestError::unreadable(path, &e))?;
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        Self::parse(&text, path, folder, format)
    }

    fn parse(
        text: &str,
        path: &Path,
        folder: PathBuf,
        format: &Format,
    ) -> Result<Self, ManifestError> {
        let wrong = |error: toml::de::Error| ManifestError::from_toml(path, text, &error, &[]);
        let file: File = toml::from_str(text).map_err(|error| match is_version_1(text) {
            true => ManifestError::whole(
                path,
                "is a version 1 manifest: convert it to version 2, as `spin doctor` does".into(),
            ),
            false => wrong(error),
        })?;
        let root = DeTable::parse(text).map_err(wrong)?;
        let located = |problem: Problem| match place::span(root.get_ref(), &problem.at) {
            Some(span) => ManifestError::at(path, text, span, problem.message),
            None => ManifestError::whole(path, problem.message),
        };
        if file.spin_manifest_version != 2 {
            return Err(located(Problem::new(
                vec![field(VERSION)],
                format!(
                    "spin_manifest_version is {}, but only version 2 is supported: write 2, and convert the file to its format",
                    file.spin_manifest_version
                ),
            )));
        }
        sections(root.get_ref(), &file, format, &located).map_err(|error| match error {
            SectionError::Manifest(error) => error,
            SectionError::Toml(error, common) => {
                ManifestError::from_toml(path, text, &error, common)
            }
        })?;
        Self::build(file, folder).map_err(located)
    }

    fn build(file: File, folder: PathBuf) -> Result<Self, Problem> {
        checks::variables(&file.variables)?;
        for id in file.component.keys() {
            if let Some(reason) = invalid_id(id) {
                return Err(Problem::new(
                    vec![field("component"), Step::Name(id.clone())],
                    format!("component id `{id}` is not valid: {reason}"),
                ));
            }
        }
        let mut places: BTreeMap<String, place::Path> = BTreeMap::new();
        let mut components = file.component;
        for id in components.keys() {
            places.insert(id.clone(), vec![field("component"), field(id)]);
        }
        let triggers = triggers(file.trigger, &mut components, &mut places)?;
        for (id, component) in &components {
            checks::component(id, component, &places[id], &components, &file.variables)?;
        }
        match checks::cycle(&components) {
            Some(message) => Err(Problem::new(Vec::new(), message)),
            None => Ok(Manifest {
                folder,
                application: file.application,
                variables: file.variables,
                triggers,
                components,
            }),
        }
    }

    /// Returns the manifest with another component and its triggers.
    ///
    /// # Errors
    /// If a component with this id already exists.
    pub fn with(
        &self,
        id: &str,
        component: Component,
        triggers: Vec<Trigger>,
    ) -> Result<Self, String> {
        let mut next = self.clone();
        if next.components.insert(id.to_owned(), component).is_some() {
            return Err(format!(
                "the manifest has a component {id}, but another is deployed under this id: remove that one, or rename the manifest's"
            ));
        }
        next.triggers.extend(triggers);
        Ok(next)
    }

    /// Checks the components' references to each other and to the application's variables.
    ///
    /// # Errors
    /// The first invalid reference, or a dependency cycle.
    pub fn check(&self) -> Result<(), String> {
        for (id, component) in &self.components {
            checks::component(
                id,
                component,
                &Vec::new(),
                &self.components,
                &self.variables,
            )
            .map_err(|problem| format!("component {id}: {}", problem.message))?;
        }
        checks::cycle(&self.components).map_or(Ok(()), Err)
    }

    /// Returns the entries of `[[trigger.KIND]]`.
    pub fn triggers_of<'m>(&'m self, kind: &'m str) -> impl Iterator<Item = &'m Trigger> {
        self.triggers
            .iter()
            .filter(move |trigger| trigger.kind == kind)
    }

    /// Returns whether a component depends on another, transitively.
    #[must_use]
    pub fn depends(&self, from: &str, on: &str) -> bool {
        checks::depends(&self.components, from, on, &mut Vec::new())
    }
}

enum SectionError {
    Manifest(ManifestError),
    /// With the fields that are valid there in addition to those of the section.
    Toml(toml::de::Error, &'static [&'static str]),
}

/// Checks the parts that belong to triggers and capabilities.
fn sections(
    root: &DeTable<'_>,
    file: &File,
    format: &Format,
    located: &impl Fn(Problem) -> ManifestError,
) -> Result<(), SectionError> {
    let check = |sections: &[Section], others: &[&str], path: place::Path, name: &str| {
        let Some(section) = sections.iter().find(|section| section.name == name) else {
            let valid = valid(sections, others);
            let mut at = path;
            at.push(Step::Name(name.to_owned()));
            let message = super::error::unknown_field(name, &valid);
            return Err(SectionError::Manifest(located(Problem::new(at, message))));
        };
        Ok((*section, path))
    };
    for kind in file.trigger.keys() {
        let (section, path) = check(&format.triggers, &[], vec![field("trigger")], kind)?;
        for index in 0..file.trigger[kind].len() {
            let at = [path.clone(), vec![field(kind), Step::Index(index)]].concat();
            let Some(value) = place::find(root, &at) else {
                continue;
            };
            let mut value = value.clone();
            if let toml::de::DeValue::Table(table) = value.get_mut() {
                for name in COMMON {
                    table.remove(name);
                }
            }
            (section.check)(value).map_err(|error| {
                let common = common(&error, &file.trigger[kind][index].config);
                SectionError::Toml(error, common)
            })?;
        }
    }
    let inline = file.trigger.iter().flat_map(|(kind, entries)| {
        let entries = entries.iter().enumerate();
        entries.filter_map(move |(index, entry)| match &entry.component {
            Some(ShortOr::Full(component)) => {
                let at = vec![
                    field("trigger"),
                    field(kind),
                    Step::Index(index),
                    field(COMPONENT),
                ];
                Some((at, &**component))
            }
            _ => None,
        })
    });
    let declared = file
        .component
        .iter()
        .map(|(id, component)| (vec![field("component"), field(id)], component));
    for (mut at, component) in declared.chain(inline) {
        at.extend([field("tool"), field("whisper-host")]);
        for name in component.tool.whisper_host.grants.keys() {
            let (section, path) = check(&format.grants, &["limits"], at.clone(), name)?;
            let at = [path, vec![field(name)]].concat();
            if let Some(value) = place::find(root, &at) {
                (section.check)(value.clone()).map_err(|error| SectionError::Toml(error, &[]))?;
            }
        }
    }
    Ok(())
}

/// Returns whether a manifest that cannot be parsed is of Spin's version 1, whose version field was a string.
fn is_version_1(text: &str) -> bool {
    let Ok(table) = text.parse::<toml::Table>() else {
        return false;
    };
    table.contains_key("spin_version")
        || table.get(VERSION) == Some(&toml::Value::String("1".into()))
}

/// Returns the triggers of all kinds. The inline component of a trigger is added to `components` under a generated id.
fn triggers(
    forms: BTreeMap<String, Vec<TriggerForm>>,
    components: &mut BTreeMap<String, Component>,
    places: &mut BTreeMap<String, place::Path>,
) -> Result<Vec<Trigger>, Problem> {
    let mut triggers = Vec::new();
    for (kind, entries) in forms {
        for (index, form) in entries.into_iter().enumerate() {
            let mut at = vec![field("trigger"), field(&kind), Step::Index(index)];
            let component = form
                .component
                .ok_or_else(|| Problem::new(at.clone(), format!("missing field `{COMPONENT}`")))?;
            at.push(field(COMPONENT));
            let id = match component {
                ShortOr::Short(id) => {
                    checks::known(&id, at, components)?;
                    id
                }
                ShortOr::Full(component) => {
                    let id = format!("{kind}-trigger-{}", index + 1);
                    if components.insert(id.clone(), *component).is_some() {
                        return Err(Problem::new(
                            at,
                            format!(
                                "[component.{id}] has the id of this trigger's own component; rename it"
                            ),
                        ));
                    }
                    places.insert(id.clone(), at);
                    id
                }
            };
            triggers.push(Trigger {
                kind: kind.clone(),
                component: id,
                config: form.config,
            });
        }
    }
    Ok(triggers)
}
