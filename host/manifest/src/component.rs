//! `[component.ID]`: a component, its source, and what it may use.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::files::{Files, Pattern};
use super::form::ShortOr;
use super::limits::Limits;
use super::source::Source;
use super::variable::Template;

/// `[component.ID]`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// The `.wasm` file, `oci://…`, `{ url, digest }`, or `{ registry, package, version }`.
    pub source: Source,
    /// A one-sentence description.
    pub description: Option<String>,
    /// The environment variables it sees, and no others.
    #[serde(default, deserialize_with = "environment")]
    pub environment: BTreeMap<String, String>,
    /// Its variables, and the only ones it sees: text in which `{{ name }}` is replaced by the value of an application variable.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub variables: BTreeMap<String, Template>,
    /// The files it sees, read-only: paths, patterns like `"assets/**/*"`, or `{ source, destination }`.
    #[serde(default)]
    pub files: Vec<Files>,
    /// Patterns of files to exclude from `files`.
    #[serde(default)]
    pub exclude_files: Vec<Pattern>,
    /// `scheme://host:port` of each server that it may send requests to; the host may be a network like `10.0.0.0/8`, and
    /// `{{ name }}` is replaced by the value of an application variable.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub allowed_outbound_hosts: Vec<Template>,
    /// Models it may use: `["whisper"]`.
    #[serde(default)]
    pub ai_models: Vec<String>,
    /// Spin's key-value stores. This host has none.
    #[serde(default)]
    pub key_value_stores: NoStores,
    /// Spin's databases. This host has none.
    #[serde(default)]
    pub sqlite_databases: NoStores,
    /// How `spin build` builds it. Read by Spin, not by this host.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub build: Option<toml::Table>,
    /// The components that satisfy its imports, by import.
    #[serde(default)]
    pub dependencies: BTreeMap<String, Dependency>,
    /// Whether every dependency may use what this component is granted.
    #[serde(default)]
    pub dependencies_inherit_configuration: bool,
    /// Settings that Spin has no field for.
    #[serde(default)]
    pub tool: Tools,
}

/// Environment variables with names and values that an environment can hold: its entries are `NAME=VALUE` and end at a NUL.
fn environment<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let variables = BTreeMap::<String, String>::deserialize(deserializer)?;
    for (name, value) in &variables {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(D::Error::custom(format!(
                "environment variable {name:?}: a name must not be empty or contain `=` or NUL, and a value must not contain NUL"
            )));
        }
    }
    Ok(variables)
}

/// A list of stores that must be empty.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(with = "[String; 0]")]
pub struct NoStores;

impl<'de> Deserialize<'de> for NoStores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Vec::<IgnoredAny>::deserialize(deserializer)?.as_slice() {
            [] => Ok(Self),
            _ => Err(D::Error::custom(
                "this host has no key-value stores and no databases to grant: leave the list empty; its own store is granted with `timeseries = true` under tool.whisper-host",
            )),
        }
    }
}

/// `[component.ID.dependencies]`: the component that satisfies an import.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "ShortOr<DependencyForm>")]
#[schemars(with = "DependencyForm")]
pub struct Dependency {
    /// The component.
    pub implementation: Implementation,
    /// The export that satisfies the import, if its name differs from the import's.
    pub export: Option<String>,
    /// Whether this dependency may use what the component is granted.
    pub inherit_configuration: bool,
}

/// The component that a dependency refers to.
#[derive(Debug, Clone, PartialEq)]
pub enum Implementation {
    /// Another component of the manifest, by id.
    Component(String),
    /// A component in a file.
    Path(PathBuf),
}

/// A dependency as written in the manifest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Dependency")]
struct DependencyForm {
    /// Another component of this manifest.
    component: Option<String>,
    /// Or a `.wasm` file.
    path: Option<PathBuf>,
    /// The export that satisfies the import, if its name differs from the import's.
    export: Option<String>,
    /// Whether this dependency may use what the component is granted.
    #[serde(default)]
    #[schemars(with = "bool")]
    inherit_configuration: Inherit,
    /// Spin's other ways of specifying a component, not supported here.
    #[schemars(skip)]
    version: Option<IgnoredAny>,
    #[schemars(skip)]
    registry: Option<IgnoredAny>,
    #[schemars(skip)]
    package: Option<IgnoredAny>,
    #[schemars(skip)]
    url: Option<IgnoredAny>,
    #[schemars(skip)]
    digest: Option<IgnoredAny>,
}

/// `inherit_configuration`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "`inherit_configuration` is true or false")]
enum Inherit {
    All(bool),
    Some(#[expect(dead_code, reason = "a list is refused whatever it contains")] Vec<IgnoredAny>),
}

impl Default for Inherit {
    fn default() -> Self {
        Self::All(false)
    }
}

impl TryFrom<ShortOr<DependencyForm>> for Dependency {
    type Error = String;

    fn try_from(form: ShortOr<DependencyForm>) -> Result<Self, String> {
        const INSTEAD: &str = "fetch it, and write `path = \"FILE.wasm\"`, or make it a component of this manifest, and write `component = \"ID\"`";
        let form = match form {
            ShortOr::Short(version) => {
                return Err(format!(
                    "a dependency by version, like \"{version}\", is not supported: {INSTEAD}"
                ));
            }
            ShortOr::Full(form) => form,
        };
        if form.url.is_some() || form.digest.is_some() {
            return Err(format!("a dependency by `url` is not supported: {INSTEAD}"));
        }
        if form.registry.is_some() || form.package.is_some() || form.version.is_some() {
            return Err(format!(
                "a dependency from a registry is not supported: {INSTEAD}"
            ));
        }
        let Inherit::All(inherit_configuration) = form.inherit_configuration else {
            return Err(
                "a list in `inherit_configuration` is not supported: write `true`, for all that the component is granted, or leave it out"
                    .into(),
            );
        };
        let implementation = match (form.component, form.path) {
            (Some(id), None) => Implementation::Component(id),
            (None, Some(path)) => Implementation::Path(path),
            _ => {
                return Err(
                    "a dependency needs either `component = \"ID\"` or `path = \"FILE.wasm\"`"
                        .into(),
                );
            }
        };
        Ok(Self {
            implementation,
            export: form.export,
            inherit_configuration,
        })
    }
}

/// `[component.ID.tool]`: settings of tools other than Spin.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
pub struct Tools {
    /// `[component.ID.tool.whisper-host]`.
    #[serde(default, rename = "whisper-host")]
    pub whisper_host: Settings,
}

/// `[component.ID.tool.whisper-host]`: grants and limits that Spin has no field for.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Settings {
    /// Its resource limits.
    #[schemars(default)]
    pub limits: Limits,
    /// Grants of the host's own capabilities, by name; see [`crate::Format`].
    #[schemars(skip)]
    pub grants: BTreeMap<String, toml::Value>,
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Settings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of grants and `limits`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
                let mut settings = Settings::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "limits" => settings.limits = map.next_value()?,
                        _ => {
                            settings.grants.insert(name, map.next_value()?);
                        }
                    }
                }
                Ok(settings)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}
