//! What a capability is.

use manifest::{Component, Limits, Manifest, Section};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::{WasiCtxBuilder, WasiView};
use wasmtime_wasi_http::WasiHttpView;

use super::resources::Resources;

/// Something that the host lends to components.
pub(crate) trait Capability: Sized {
    /// Interfaces that a component may import only when it is granted the capability, without versions.
    const RESTRICTED: &'static [&'static str] = &[];
    /// Interfaces that every component may import, but that give nothing without the grant.
    const OPEN: &'static [&'static str] = &[];
    /// What to write into the manifest to grant it.
    const HOW_TO_GRANT: &'static str;
    /// What the manifest grants one component.
    type Grant: Send + Sync;
    /// What one instance gets.
    type State: Send;

    /// Makes it of what the host has.
    ///
    /// # Errors
    /// When something that the host was given cannot be used.
    fn new(resources: &Resources) -> anyhow::Result<Self>;

    /// Its field under `[component.ID.tool.whisper-host]`, if Spin has none for it.
    fn section() -> Option<Section> {
        None
    }

    /// Adds the interfaces to the linker.
    fn link<T: Access<Self>>(_: &mut Linker<T>) -> wasmtime::Result<()> {
        Ok(())
    }

    /// Whether the component's manifest entry grants it.
    fn is_granted(component: &Component) -> bool;

    /// Reads the grant from the component's manifest entry; none if it is not granted.
    fn grant(
        &self,
        manifest: &Manifest,
        component: &Component,
    ) -> anyhow::Result<Option<Self::Grant>>;

    /// One line on a grant, for people.
    fn describe(grant: &Self::Grant) -> String;

    /// What an instance of a component with this grant gets.
    fn state(&self, grant: Option<&Self::Grant>, limits: &Limits) -> Self::State;

    /// Called when an instance begins another invocation. Spans of what the component calls are children of this one.
    fn begin(_: &mut Self::State, _: &tracing::Span) {}

    /// Adds to an instance's WASI context what the grant gives through WASI itself.
    fn extend(_: &Self::Grant, _: &mut WasiCtxBuilder) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// An instance, as far as the capability `C` may reach into it.
pub(crate) trait Access<C: Capability>: WasiView + WasiHttpView + Send + 'static {
    /// Its state of the capability, and its resources.
    fn access(&mut self) -> (&mut C::State, &mut ResourceTable);
}
