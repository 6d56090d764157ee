//! The application's manifest, `spin.toml`: Spin's manifest version 2, the subset that applies here.
//!
//! Parsing never panics; every error names the file, the line and, for a misspelt field, the nearest valid name.
//! This module knows the file's form and nothing of components: whether a source exists is the loader's business.

mod error;
mod limits;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

pub use error::ManifestError;
pub use limits::Limits;

/// A whole manifest, checked for inner consistency.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The folder that relative paths are relative to.
    pub folder: PathBuf,
    /// `[application]`.
    pub application: Application,
    /// `[[trigger.http]]`, in the order of the file.
    pub http: Vec<HttpTrigger>,
    /// `[component.ID]`, by id.
    pub components: BTreeMap<String, Component>,
}

/// `[application]`: what the application is called.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// Its version, if stated.
    pub version: Option<String>,
    /// One sentence on it.
    pub description: Option<String>,
    /// Who wrote it.
    #[serde(default)]
    pub authors: Vec<String>,
}

/// `[[trigger.http]]`: requests whose path matches `route` go to `component`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTrigger {
    /// A path; a segment may be `:name`, and a trailing `/...` matches everything below.
    pub route: Spanned<String>,
    /// The component's id.
    pub component: Spanned<String>,
}

/// `[component.ID]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// The `.wasm` file.
    pub source: Spanned<PathBuf>,
    /// One sentence on it.
    pub description: Option<String>,
    /// The environment variables it sees; it sees no others.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// `scheme://host:port` of each server that it may send requests to.
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<String>,
    /// Models that it may use: `["whisper"]`.
    #[serde(default)]
    pub ai_models: Vec<String>,
    /// How `spin build` builds it. Read by Spin, not by this host.
    pub build: Option<toml::Table>,
    /// Which component answers which of its imports.
    #[serde(default)]
    pub dependencies: BTreeMap<String, Dependency>,
    /// Let every dependency use what this component is granted.
    #[serde(default)]
    pub dependencies_inherit_configuration: bool,
    /// What Spin has no field for.
    #[serde(default)]
    pub tool: Tools,
}

/// `[component.ID.dependencies]`: the component that answers an import.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// Another component of this manifest.
    pub component: Option<Spanned<String>>,
    /// Or a `.wasm` file.
    pub path: Option<PathBuf>,
    /// The export that answers the import, when its name is not the import's.
    pub export: Option<String>,
    /// Let this dependency use what the component is granted.
    #[serde(default)]
    pub inherit_configuration: bool,
}

/// `[component.ID.tool]`: Spin leaves this table to others.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Tools {
    /// `[component.ID.tool.whisper-host]`.
    #[serde(default, rename = "whisper-host")]
    pub whisper_host: Settings,
}

/// `[component.ID.tool.whisper-host]`: grants and limits that Spin has no field for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Grants the time-series store.
    #[serde(default)]
    pub timeseries: bool,
    /// How much of everything it may use.
    #[serde(default)]
    pub limits: Limits,
}

/// The file as serde sees it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    spin_manifest_version: Spanned<u32>,
    application: Application,
    trigger: Triggers,
    component: BTreeMap<String, Component>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Triggers {
    #[serde(default)]
    http: Vec<HttpTrigger>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, has an unknown or missing field, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let text =
            std::fs::read_to_string(path).map_err(|e| ManifestError::unreadable(path, &e))?;
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        Self::parse(&text, path, folder)
    }

    fn parse(text: &str, path: &Path, folder: PathBuf) -> Result<Self, ManifestError> {
        let at = |span: std::ops::Range<usize>, message: String| {
            ManifestError::at(path, text, span, message)
        };
        let file: File =
            toml::from_str(text).map_err(|e| ManifestError::from_toml(path, text, &e))?;

        if *file.spin_manifest_version.get_ref() != 2 {
            return Err(at(
                file.spin_manifest_version.span(),
                format!(
                    "spin_manifest_version is {}, but only version 2 is supported",
                    file.spin_manifest_version.get_ref()
                ),
            ));
        }

        let known = |id: &Spanned<String>| match file.component.contains_key(id.get_ref()) {
            true => Ok(()),
            false => Err(at(
                id.span(),
                format!(
                    "there is no [component.{}]{}",
                    id.get_ref(),
                    error::did_you_mean(id.get_ref(), file.component.keys().map(String::as_str))
                ),
            )),
        };
        for trigger in &file.trigger.http {
            known(&trigger.component)?;
            if !trigger.route.get_ref().starts_with('/') {
                return Err(at(
                    trigger.route.span(),
                    format!("route \"{}\" must start with `/`", trigger.route.get_ref()),
                ));
            }
        }
        for (id, component) in &file.component {
            for (import, dependency) in &component.dependencies {
                match (&dependency.component, &dependency.path) {
                    (Some(other), None) => known(other)?,
                    (None, Some(_)) => {}
                    _ => {
                        return Err(at(
                            component.source.span(),
                            format!(
                                "dependency \"{import}\" of component {id} needs either `component = \"ID\"` or `path = \"FILE.wasm\"`"
                            ),
                        ));
                    }
                }
            }
        }
        if let Some(cycle) = dependency_cycle(&file.component) {
            return Err(ManifestError::whole(
                path,
                format!("the dependencies of component {cycle} lead back to itself"),
            ));
        }
        Ok(Manifest {
            folder,
            application: file.application,
            http: file.trigger.http,
            components: file.component,
        })
    }
}

/// A component that depends on itself, by whatever detour.
fn dependency_cycle(components: &BTreeMap<String, Component>) -> Option<&str> {
    fn reaches(
        components: &BTreeMap<String, Component>,
        from: &str,
        goal: &str,
        seen: &mut Vec<String>,
    ) -> bool {
        if seen.iter().any(|s| s == from) {
            return false;
        }
        seen.push(from.to_owned());
        components.get(from).is_some_and(|component| {
            component
                .dependencies
                .values()
                .filter_map(|d| d.component.as_ref())
                .any(|next| {
                    next.get_ref() == goal || reaches(components, next.get_ref(), goal, seen)
                })
        })
    }
    components
        .keys()
        .map(String::as_str)
        .find(|id| reaches(components, id, id, &mut Vec::new()))
}
