//! Environment variables: those in `environment` of a component, and none of the host's own.

use manifest::{Component, Limits, Manifest};
use wasmtime_wasi::WasiCtxBuilder;

use super::capability::Capability;
use super::resources::Resources;

/// The capability of environment variables.
pub struct Environment;

impl Capability for Environment {
    const OPEN: &'static [&'static str] = &["wasi:cli/environment"];
    const HOW_TO_GRANT: &'static str = "name the variables under [component.ID.environment]";
    type Grant = Vec<(String, String)>;
    type State = ();

    fn new(_: &Resources) -> anyhow::Result<Self> {
        Ok(Self)
    }

    fn is_granted(component: &Component) -> bool {
        !component.environment.is_empty()
    }

    fn grant(&self, _: &Manifest, component: &Component) -> anyhow::Result<Option<Self::Grant>> {
        let variables = component.environment.clone().into_iter().collect();
        Ok(Self::is_granted(component).then_some(variables))
    }

    fn describe(grant: &Self::Grant) -> String {
        let names: Vec<&str> = grant.iter().map(|(name, _)| name.as_str()).collect();
        format!("environment {}", names.join(", "))
    }

    fn state(&self, _: Option<&Self::Grant>, _: &Limits) {}

    fn extend(grant: &Self::Grant, wasi: &mut WasiCtxBuilder) -> wasmtime::Result<()> {
        wasi.envs(grant);
        Ok(())
    }
}
