//! The trait of capabilities.

use std::sync::Arc;

use manifest::{Component, Limits, Manifest, Section};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::{WasiCtxBuilder, WasiView};
use wasmtime_wasi_http::WasiHttpView;

use super::resources::Resources;
use crate::invocation::{Output, ParentSpan};

/// Something that the host can grant to components.
pub(crate) trait Capability: Sized {
    /// Interfaces that a component may import only if it is granted the capability, without versions.
    const RESTRICTED: &'static [&'static str] = &[];
    /// Interfaces that every component may import, but that give access to nothing without the grant, without versions.
    const OPEN: &'static [&'static str] = &[];
    /// Advice on how to grant it in the manifest.
    const HOW_TO_GRANT: &'static str;
    /// What a component is granted.
    type Grant: Send + Sync;
    /// The state of one instance.
    type State: Send;

    /// Creates the capability from the host's resources.
    ///
    /// # Errors
    /// When a resource cannot be used.
    fn new(resources: &Resources) -> anyhow::Result<Self>;

    /// Returns its field under `[component.ID.tool.whisper-host]`, if Spin has none for it.
    fn section() -> Option<Section> {
        None
    }

    /// Adds the interfaces to the linker.
    fn link<T: Access<Self>>(_: &mut Linker<T>) -> wasmtime::Result<()> {
        Ok(())
    }

    /// Returns whether the component's manifest entry grants it.
    fn is_granted(component: &Component) -> bool;

    /// Reads the grant from the component's manifest entry; `None` if it is not granted.
    fn grant(
        &self,
        manifest: &Manifest,
        component: &Component,
    ) -> anyhow::Result<Option<Self::Grant>>;

    /// Describes a grant in one line, for people.
    fn describe(grant: &Self::Grant) -> String;

    /// Creates the state of an instance of a component with this grant.
    fn state(&self, grant: Option<&Self::Grant>, limits: &Limits) -> Self::State;

    /// Called when an instance starts another invocation, with its span, the parent of the spans of the component's calls, and its
    /// output, for what the host logs about them. Called at the start of the instance, too.
    fn begin(_: &mut Self::State, _: &ParentSpan, _: &Arc<Output>) {}

    /// Adds what is granted through WASI itself to an instance's WASI context.
    fn extend(_: &Self::Grant, _: &mut WasiCtxBuilder) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// Access of the capability `C` to an instance.
pub(crate) trait Access<C: Capability>: WasiView + WasiHttpView + Send + 'static {
    /// Returns the capability's state, and the instance's table of resources.
    fn access(&mut self) -> (&mut C::State, &mut ResourceTable);
}
