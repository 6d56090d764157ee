//! Consistency checks within a manifest, beyond the format of each field.

use std::collections::BTreeMap;

use super::component::{Component, Implementation};
use super::error::did_you_mean;
use super::place::{Path, Step, field};
use super::variable::{Template, Variable, invalid_name};

/// A problem at a location in a manifest.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) at: Path,
    pub(super) message: String,
}

impl Problem {
    pub(super) fn new(at: Path, message: String) -> Self {
        Self { at, message }
    }
}

/// Checks that each variable has a valid name and is either required or has a default.
pub(super) fn variables(declared: &BTreeMap<String, Variable>) -> Result<(), Problem> {
    for (name, variable) in declared {
        let at = |last: Step| vec![field("variables"), last];
        if let Some(reason) = invalid_name(name) {
            return Err(Problem::new(
                at(Step::Name(name.clone())),
                format!("variable name `{name}` is not valid: {reason}"),
            ));
        }
        match (variable.required, variable.default.is_some()) {
            (false, false) => {
                return Err(Problem::new(
                    at(Step::Name(name.clone())),
                    format!(
                        "variable `{name}` has no value: write `default = \"…\"`, or `required = true` where it must be set"
                    ),
                ));
            }
            (true, true) => {
                return Err(Problem::new(
                    at(Step::Name(name.clone())),
                    format!("variable `{name}` is required and has a default: keep one of the two"),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks a component's references to other components and to the application's variables. `place` is the component's location.
pub(super) fn component(
    id: &str,
    component: &Component,
    place: &Path,
    components: &BTreeMap<String, Component>,
    variables: &BTreeMap<String, Variable>,
) -> Result<(), Problem> {
    let at = |steps: &[Step]| [place.as_slice(), steps].concat();
    for (import, dependency) in &component.dependencies {
        if let Implementation::Component(other) = &dependency.implementation {
            let steps = [field("dependencies"), field(import), field("component")];
            known(other, at(&steps), components)?;
        }
    }
    for (name, template) in &component.variables {
        let place = at(&[field("variables"), field(name)]);
        if let Some(reason) = invalid_name(name) {
            return Err(Problem::new(
                place,
                format!("variable name `{name}` of component {id} is not valid: {reason}"),
            ));
        }
        let what = format!("variable `{name}` of component {id}");
        check_template(template, place, &what, variables)?;
    }
    for (index, template) in component.allowed_outbound_hosts.iter().enumerate() {
        let place = at(&[field("allowed_outbound_hosts"), Step::Index(index)]);
        let what = format!("allowed_outbound_hosts of component {id}");
        check_template(template, place, &what, variables)?;
    }
    Ok(())
}

/// Checks that a component with this id exists.
pub(super) fn known(
    id: &str,
    at: Path,
    components: &BTreeMap<String, Component>,
) -> Result<(), Problem> {
    match components.contains_key(id) {
        true => Ok(()),
        false => Err(Problem::new(
            at,
            format!(
                "there is no [component.{id}]{}",
                did_you_mean(id, components.keys().map(String::as_str))
            ),
        )),
    }
}

/// Checks that a template, the value of `what`, refers only to variables of the application.
fn check_template(
    template: &Template,
    at: Path,
    what: &str,
    variables: &BTreeMap<String, Variable>,
) -> Result<(), Problem> {
    let missing = template
        .names()
        .find(|wanted| !variables.contains_key(*wanted));
    match missing {
        None => Ok(()),
        Some(missing) => Err(Problem::new(
            at,
            format!(
                "{what} uses `{missing}`, which is not under [variables]{}",
                did_you_mean(missing, variables.keys().map(String::as_str))
            ),
        )),
    }
}

/// Returns an error message if a component depends on itself, transitively.
pub(super) fn cycle(components: &BTreeMap<String, Component>) -> Option<String> {
    dependency_cycle(components).map(|id| {
        format!(
            "component {id} depends on itself through its dependencies; remove one of them to break the cycle"
        )
    })
}

/// Returns a component that depends on itself, transitively.
fn dependency_cycle(components: &BTreeMap<String, Component>) -> Option<&str> {
    components
        .keys()
        .map(String::as_str)
        .find(|id| depends(components, id, id, &mut Vec::new()))
}

/// Returns whether a component depends on another, transitively. Components in `seen` are not visited again.
pub(super) fn depends(
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
                Implementation::Component(id) => Some(id),
                Implementation::Path(_) => None,
            })
            .any(|next| next == on || depends(components, next, on, seen))
    })
}
