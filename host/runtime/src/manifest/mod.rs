//! The application's manifest, `spin.toml`: Spin's manifest version 2, the subset that applies here.
//!
//! Parsing never panics; every error names the file, the line and, for a misspelt field, the nearest valid name.
//! This module knows the file's form and nothing of components: whether a source exists is the loader's business.

mod application;
mod component;
mod error;
mod files;
mod form;
mod limits;
mod source;
mod trigger;
mod variable;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

pub use application::Application;
pub use component::{Component, Dependency, Implementation, Settings, Tools};
pub use error::ManifestError;
pub use files::{Files, FilesError, Pattern, Placement};
pub use limits::Limits;
pub use source::{Digest, Source};
pub use trigger::HttpTrigger;
pub(crate) use variable::invalid_name;
pub use variable::{Template, TemplateError, Variable};

use form::ShortOr;
use trigger::HttpTriggerForm;

/// A whole manifest, checked for inner consistency.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The folder that relative paths are relative to.
    pub folder: PathBuf,
    /// `[application]`.
    pub application: Application,
    /// `[variables]`, by name.
    pub variables: BTreeMap<String, Variable>,
    /// `[[trigger.http]]`, in the order of the file, without those whose route is private.
    pub http: Vec<HttpTrigger>,
    /// `[component.ID]`, by id; with the components that triggers hold themselves.
    pub components: BTreeMap<String, Component>,
}

/// An application of WebAssembly components: Spin's manifest version 2, the subset that this host supports.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "spin.toml for whisper-host")]
struct File {
    /// The version of the manifest's form: 2.
    #[schemars(with = "u32", range(min = 2, max = 2))]
    spin_manifest_version: Spanned<u32>,
    /// What the application is called.
    application: Application,
    /// Values that whoever runs the application may set, as environment variables `SPIN_VARIABLE_NAME`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Variable>")]
    variables: BTreeMap<Spanned<String>, Spanned<Variable>>,
    /// Which requests go to which component.
    trigger: Triggers,
    /// The components, by id.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Component>")]
    component: BTreeMap<Spanned<String>, Component>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Triggers {
    /// HTTP requests.
    #[serde(default)]
    http: Vec<HttpTriggerForm>,
}

/// The JSON schema of a manifest, for editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(File).to_value()
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
        let at = |span: Range<usize>, message: String| ManifestError::at(path, text, span, message);
        let file: File = toml::from_str(text).map_err(|error| match is_version_1(text) {
            true => ManifestError::whole(
                path,
                "is a manifest of version 1: write it anew in the form of version 2, as `spin doctor` does".into(),
            ),
            false => ManifestError::from_toml(path, text, &error),
        })?;
        if *file.spin_manifest_version.get_ref() != 2 {
            return Err(at(
                file.spin_manifest_version.span(),
                format!(
                    "spin_manifest_version is {}, but only version 2 is supported: write 2, and bring the file into its form",
                    file.spin_manifest_version.get_ref()
                ),
            ));
        }
        let variables = variables(file.variables, &at)?;
        let mut components = components(file.component, &at)?;
        let http = triggers(file.trigger.http, &mut components, &at)?;
        for (id, component) in &components {
            check_dependencies(component, &components, &at)?;
            check_variables(id, component, &variables, &at)?;
        }
        let manifest = Manifest {
            folder,
            application: file.application,
            variables,
            http,
            components,
        };
        match manifest.circle() {
            Some(circle) => Err(ManifestError::whole(path, circle)),
            None => Ok(manifest),
        }
    }

    /// What is wrong where components depend on themselves.
    pub(crate) fn circle(&self) -> Option<String> {
        dependency_cycle(&self.components).map(|id| {
            format!(
                "the dependencies of component {id} lead back to itself; take one out of the circle"
            )
        })
    }

    /// Whether a component depends on another, by whatever detour.
    pub(crate) fn depends(&self, from: &str, on: &str) -> bool {
        depends(&self.components, from, on, &mut Vec::new())
    }
}

/// Whether a manifest that cannot be read is of Spin's first form, whose version was a text.
fn is_version_1(text: &str) -> bool {
    let Ok(table) = text.parse::<toml::Table>() else {
        return false;
    };
    table.contains_key("spin_version")
        || table.get("spin_manifest_version") == Some(&toml::Value::String("1".into()))
}

/// `[component]`, each under a good id.
fn components(
    declared: BTreeMap<Spanned<String>, Component>,
    at: &At<'_>,
) -> Result<BTreeMap<String, Component>, ManifestError> {
    declared
        .into_iter()
        .map(|(key, component)| match invalid_id(key.get_ref()) {
            Some(reason) => Err(at(
                key.span(),
                format!("component `{}` has no valid id: {reason}", key.get_ref()),
            )),
            None => Ok((key.into_inner(), component)),
        })
        .collect()
}

/// Why this cannot be the id of a component; none if it can. The rules are Spin's.
pub(crate) fn invalid_id(id: &str) -> Option<&'static str> {
    let word = |word: &str| {
        let upper = word.starts_with(|c: char| c.is_ascii_uppercase());
        let of_word = |c: char| {
            c.is_ascii_digit()
                || match upper {
                    true => c.is_ascii_uppercase(),
                    false => c.is_ascii_lowercase(),
                }
        };
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(of_word)
    };
    (!id.split('-').all(word)).then_some(
        "it must be words with `-` between them, each of a letter and then letters and digits, all small or all capital",
    )
}

/// Makes the error of a message about a place in the file.
type At<'a> = dyn Fn(Range<usize>, String) -> ManifestError + 'a;

/// `[variables]`, each of which has a good name and either a default or the duty to be set.
fn variables(
    declared: BTreeMap<Spanned<String>, Spanned<Variable>>,
    at: &At<'_>,
) -> Result<BTreeMap<String, Variable>, ManifestError> {
    declared
        .into_iter()
        .map(|(key, variable)| {
            let (span, name) = (key.span(), key.into_inner());
            let variable = variable.into_inner();
            if let Some(reason) = invalid_name(&name) {
                return Err(at(span, format!("variable `{name}` has no valid name: {reason}")));
            }
            match (variable.required, variable.default.is_some()) {
                (false, false) => Err(at(
                    span,
                    format!("variable `{name}` has no value: write `default = \"…\"`, or `required = true` where it must be set"),
                )),
                (true, true) => Err(at(
                    span,
                    format!("variable `{name}` is required and has a default: keep one of the two"),
                )),
                _ => Ok((name, variable)),
            }
        })
        .collect()
}

/// The triggers that bring requests. A component that a trigger holds itself is put with the others, under an id of its
/// own.
fn triggers(
    forms: Vec<HttpTriggerForm>,
    components: &mut BTreeMap<String, Component>,
    at: &At<'_>,
) -> Result<Vec<HttpTrigger>, ManifestError> {
    let mut triggers = Vec::new();
    for (form, number) in forms.into_iter().zip(1..) {
        let (span, component) = (form.component.span(), form.component.into_inner());
        let id = match component {
            ShortOr::Short(id) => {
                known(&id, span.clone(), components, at)?;
                id
            }
            ShortOr::Full(component) => {
                let id = format!("http-trigger-{number}");
                if components.insert(id.clone(), *component).is_some() {
                    return Err(at(
                        span,
                        format!(
                            "[component.{id}] has the id of this trigger's own component; rename it"
                        ),
                    ));
                }
                id
            }
        };
        if let Some(executor) = &form.executor
            && let Some(message) = executor.refused()
        {
            return Err(at(executor.kind.span(), message));
        }
        let route = form.route.span();
        match form.route.into_inner() {
            ShortOr::Short(path) if path.starts_with('/') => triggers.push(HttpTrigger {
                route: Spanned::new(route, path),
                component: Spanned::new(span, id),
            }),
            ShortOr::Short(path) => {
                return Err(at(
                    route,
                    format!("route \"{path}\" must start with `/`: write \"/{path}\""),
                ));
            }
            ShortOr::Full(form) if form.private => {}
            ShortOr::Full(_) => {
                return Err(at(
                    route,
                    "`private = false` is no route: write a path like \"/hello\"".into(),
                ));
            }
        }
    }
    Ok(triggers)
}

/// That there is a component of this id.
fn known(
    id: &str,
    span: Range<usize>,
    components: &BTreeMap<String, Component>,
    at: &At<'_>,
) -> Result<(), ManifestError> {
    match components.contains_key(id) {
        true => Ok(()),
        false => Err(at(
            span,
            format!(
                "there is no [component.{id}]{}",
                error::did_you_mean(id, components.keys().map(String::as_str))
            ),
        )),
    }
}

/// That there is a component for each dependency that names one.
fn check_dependencies(
    component: &Component,
    components: &BTreeMap<String, Component>,
    at: &At<'_>,
) -> Result<(), ManifestError> {
    for dependency in component.dependencies.values() {
        if let Implementation::Component(other) = &dependency.implementation {
            known(other.get_ref(), other.span(), components, at)?;
        }
    }
    Ok(())
}

/// That a component's variables have good names, and name variables of the application.
fn check_variables(
    id: &str,
    component: &Component,
    variables: &BTreeMap<String, Variable>,
    at: &At<'_>,
) -> Result<(), ManifestError> {
    for (name, template) in &component.variables {
        if let Some(reason) = invalid_name(name) {
            return Err(at(
                template.span(),
                format!("variable `{name}` of component {id} has no valid name: {reason}"),
            ));
        }
        check_template(
            template,
            &format!("variable `{name}` of component {id}"),
            variables,
            at,
        )?;
    }
    for entry in &component.allowed_outbound_hosts {
        let what = format!("allowed_outbound_hosts of component {id}");
        check_template(entry, &what, variables, at)?;
    }
    Ok(())
}

/// That a template names variables of the application; `what` it is the value of.
fn check_template(
    template: &Spanned<Template>,
    what: &str,
    variables: &BTreeMap<String, Variable>,
    at: &At<'_>,
) -> Result<(), ManifestError> {
    let missing = template
        .get_ref()
        .names()
        .find(|wanted| !variables.contains_key(*wanted));
    match missing {
        None => Ok(()),
        Some(missing) => Err(at(
            template.span(),
            format!(
                "{what} uses `{missing}`, which is not under [variables]{}",
                error::did_you_mean(missing, variables.keys().map(String::as_str))
            ),
        )),
    }
}

/// A component that depends on itself, by whatever detour.
fn dependency_cycle(components: &BTreeMap<String, Component>) -> Option<&str> {
    components
        .keys()
        .map(String::as_str)
        .find(|id| depends(components, id, id, &mut Vec::new()))
}

/// Whether a component depends on another, by whatever detour. Those `seen` are not asked again.
fn depends(
    components: &BTreeMap<String, Component>,
    from: &str,
    on: &str,
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
            .filter_map(|dependency| match &dependency.implementation {
                Implementation::Component(id) => Some(id.get_ref()),
                Implementation::Path(_) => None,
            })
            .any(|next| next == on || depends(components, next, on, seen))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_those_of_spin() {
        for id in ["a", "my-comp", "a1-b2", "HTTP-server", "x-Y-z9"] {
            assert_eq!(super::invalid_id(id), None, "{id}");
        }
        for id in [
            "", "-", "a-", "a--b", "my_comp", "1-2-3", "a-1", "Ab", "aB", "é", "a.b",
        ] {
            assert!(super::invalid_id(id).is_some(), "{id}");
        }
    }
}
