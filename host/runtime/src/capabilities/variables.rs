//! Variables: `wasi:config/store` and `fermyon:spin/variables`, for those in `[component.ID.variables]` only.
//!
//! Values are resolved once, when the component is loaded, from the application's variables, which come from the host's
//! environment. No value is ever logged or part of an error, secret or not.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use anyhow::Context as _;
use wasmtime::component::{HasData, Linker};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};

use super::capability::{self, Capability};
use super::resources::Resources;
use manifest::{Component, Limits, Manifest, Template, Variable, invalid_name};

/// Prefix of the host's environment variables that set application variables; the variable's name follows in upper case. It is
/// Spin's prefix, as the application may run under either.
const PREFIX: &str = "SPIN_VARIABLE_";

/// Values of application variables from the environment.
#[derive(Clone)]
pub struct Variables(Arc<BTreeMap<String, OsString>>);

/// The variables of one component, in the forms of both interfaces.
pub(crate) struct Values {
    spin: BTreeMap<String, String>,
    wasi: WasiConfigVariables,
}

pub(crate) struct State(Arc<Values>);

/// Tells the linker which part of an instance the interface works on.
struct Access;

impl HasData for Access {
    type Data<'a> = &'a mut State;
}

impl Variables {
    /// Reads values from an environment: `SPIN_VARIABLE_API_TOKEN` is the value of the variable `api_token`.
    pub(super) fn from_environment(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let value = |(name, value): (OsString, OsString)| {
            let name = name.to_str()?.strip_prefix(PREFIX)?;
            (name == name.to_ascii_uppercase()).then(|| (name.to_ascii_lowercase(), value))
        };
        Self(Arc::new(
            environment.into_iter().filter_map(value).collect(),
        ))
    }

    /// Resolves a template with the values of application variables.
    pub(super) fn resolve(
        &self,
        manifest: &Manifest,
        template: &Template,
    ) -> anyhow::Result<String> {
        template.resolve(|wanted| {
            let variable = manifest
                .variables
                .get(wanted)
                .with_context(|| format!("`{wanted}` is not under [variables]"))?;
            self.value(wanted, variable)
        })
    }

    /// Returns the value of an application variable. Errors never contain the value.
    fn value(&self, name: &str, variable: &Variable) -> anyhow::Result<String> {
        let environment = || format!("{PREFIX}{}", name.to_ascii_uppercase());
        match (self.0.get(name), &variable.default) {
            (Some(value), _) => value.to_str().map(str::to_owned).with_context(|| {
                format!("the environment variable {} is not UTF-8", environment())
            }),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => anyhow::bail!(
                "variable `{name}` is required, but has no value: set the environment variable {}",
                environment()
            ),
        }
    }
}

impl Capability for Variables {
    const RESTRICTED: &'static [&'static str] = &["wasi:config/store", "fermyon:spin/variables"];
    const HOW_TO_GRANT: &'static str = "name its variables under [component.ID.variables]";
    type Grant = Arc<Values>;
    type State = State;

    fn new(resources: &Resources) -> anyhow::Result<Self> {
        Ok(Self::from_environment(resources.environment.clone()))
    }

    fn link<T: capability::Access<Self>>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
        wasmtime_wasi_config::add_to_linker(linker, |instance| {
            WasiConfig::new(&instance.access().0.0.wasi)
        })?;
        bindings::fermyon::spin::variables::add_to_linker::<_, Access>(linker, |instance| {
            instance.access().0
        })
    }

    fn is_granted(component: &Component) -> bool {
        !component.variables.is_empty()
    }

    fn grant(
        &self,
        manifest: &Manifest,
        component: &Component,
    ) -> anyhow::Result<Option<Self::Grant>> {
        if component.variables.is_empty() {
            return Ok(None);
        }
        let spin = component
            .variables
            .iter()
            .map(|(name, template)| {
                let value = self.resolve(manifest, template)?;
                Ok((name.clone(), value))
            })
            .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        let wasi = spin.clone().into_iter().collect();
        Ok(Some(Arc::new(Values { spin, wasi })))
    }

    fn describe(grant: &Self::Grant) -> String {
        let names: Vec<&str> = grant.spin.keys().map(String::as_str).collect();
        format!("variables {}", names.join(", "))
    }

    fn state(&self, grant: Option<&Self::Grant>, _: &Limits) -> State {
        let none = || {
            Arc::new(Values {
                spin: BTreeMap::new(),
                wasi: WasiConfigVariables::new(),
            })
        };
        State(grant.cloned().unwrap_or_else(none))
    }
}

impl bindings::fermyon::spin::variables::Host for State {
    fn get(
        &mut self,
        name: String,
    ) -> wasmtime::Result<Result<String, bindings::fermyon::spin::variables::Error>> {
        use bindings::fermyon::spin::variables::Error;
        Ok(match (self.0.spin.get(&name), invalid_name(&name)) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(reason)) => Err(Error::InvalidName(format!("\"{name}\": {reason}"))),
            (None, None) => Err(Error::Undefined(format!(
                "the component has no variable \"{name}\"; name it under its `variables` in the manifest"
            ))),
        })
    }
}

/// The host's side of `wit/spin.wit`.
#[allow(missing_docs)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/spin.wit",
        world: "fermyon:spin/host",
        imports: { default: trappable },
    });
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    use super::Variables;
    use manifest::Variable;

    fn variables(environment: &[(&str, &[u8])]) -> Variables {
        Variables::from_environment(
            environment
                .iter()
                .map(|(name, value)| (OsString::from(*name), OsString::from_vec(value.to_vec()))),
        )
    }

    fn variable(default: Option<&str>) -> Variable {
        Variable {
            description: None,
            default: default.map(str::to_owned),
            required: default.is_none(),
            secret: true,
        }
    }

    #[test]
    fn the_environment_overrides_the_default() {
        let variables = variables(&[("SPIN_VARIABLE_API_TOKEN", b"set"), ("OTHER", b"x")]);
        let value = |name: &str| variables.value(name, &variable(Some("default"))).unwrap();
        assert_eq!(value("api_token"), "set");
        assert_eq!(value("other"), "default");
    }

    #[test]
    fn an_error_says_how_to_set_a_required_variable() {
        let error = variables(&[])
            .value("api_token", &variable(None))
            .unwrap_err();
        assert!(error.to_string().contains("SPIN_VARIABLE_API_TOKEN"));
    }

    #[test]
    fn a_value_that_is_not_utf8_is_refused_but_not_shown() {
        let variables = variables(&[("SPIN_VARIABLE_KEY", b"hunter2\xff")]);
        let error = variables.value("key", &variable(None)).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
