//! What the host can lend to a component. Each capability is one module of one shape: the interfaces it provides, how it
//! is linked, which part of the manifest grants it, and what one instance gets.
//!
//! To add one: a module that implements [`Capability`], and a line in the list below.

mod files;
mod inference;
mod outbound_http;
mod timeseries;
mod variables;

use std::path::Path;

use wasmtime::component::Linker;
use wasmtime_wasi::WasiCtxBuilder;

use crate::engine::InstanceState;
use crate::manifest::{Component, Limits, Manifest};

pub use files::Files;
pub(crate) use files::selected;
pub use inference::Inference;
pub use outbound_http::OutboundHttp;
pub use timeseries::Timeseries;
pub use variables::Variables;

/// One capability.
pub(crate) trait Capability {
    /// Interfaces that a component may import only when it is granted the capability, without versions.
    const RESTRICTED: &'static [&'static str];
    /// What to write into the manifest to grant it.
    const HOW_TO_GRANT: &'static str;
    /// What the manifest grants one component.
    type Grant: Send + Sync;
    /// What one instance gets.
    type State: Send;

    /// Adds the interfaces to the linker.
    fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()>;

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

    /// Adds to an instance's WASI context what the grant gives through WASI itself.
    fn extend(_: &Self::Grant, _: &mut WasiCtxBuilder) -> wasmtime::Result<()> {
        Ok(())
    }
}

macro_rules! capabilities {
    ($($name:ident: $capability:ty,)*) => {
        /// All capabilities of this host.
        pub struct Capabilities {
            $(#[allow(missing_docs)] pub $name: $capability,)*
        }

        /// What a component is granted.
        pub(crate) struct Grants {
            $($name: Option<<$capability as Capability>::Grant>,)*
        }

        /// What an instance has of each capability.
        pub(crate) struct States {
            $(
                #[allow(dead_code, reason = "what a capability gives through WASI needs no state")]
                pub(crate) $name: <$capability as Capability>::State,
            )*
        }

        impl Capabilities {
            pub(crate) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
                $(<$capability as Capability>::link(linker)?;)*
                Ok(())
            }

            pub(crate) fn grants(
                &self,
                manifest: &Manifest,
                component: &Component,
            ) -> anyhow::Result<Grants> {
                Ok(Grants { $($name: self.$name.grant(manifest, component)?,)* })
            }

            pub(crate) fn states(&self, grants: &Grants, limits: &Limits) -> States {
                States { $($name: self.$name.state(grants.$name.as_ref(), limits),)* }
            }

            /// Whether an interface may be imported only when it is granted.
            pub(crate) fn is_restricted(interface: &str) -> bool {
                $(provides::<$capability>(interface))||*
            }
        }

        impl Grants {
            /// How to grant the interface `import`, where that is needed and was not done.
            pub(crate) fn missing(&self, import: &str) -> Option<&'static str> {
                $(if self.$name.is_none() && provides::<$capability>(import) {
                    return Some(<$capability as Capability>::HOW_TO_GRANT);
                })*
                None
            }

            /// Adds to an instance's WASI context what the grants give through WASI itself.
            pub(crate) fn extend(&self, wasi: &mut WasiCtxBuilder) -> wasmtime::Result<()> {
                $(if let Some(grant) = &self.$name {
                    <$capability as Capability>::extend(grant, wasi)?;
                })*
                Ok(())
            }

            /// A line for each grant.
            pub(crate) fn describe(&self) -> Vec<String> {
                let mut lines = Vec::new();
                $(lines.extend(self.$name.as_ref().map(<$capability as Capability>::describe));)*
                lines
            }
        }
    };
}

capabilities! {
    inference: Inference,
    timeseries: Timeseries,
    outbound_http: OutboundHttp,
    variables: Variables,
    files: Files,
}

impl Grants {
    /// The folder, named by its content, of the files that the component sees.
    pub(crate) fn files(&self) -> Option<&Path> {
        self.files.as_ref().map(files::Mount::folder)
    }
}

fn provides<C: Capability>(interface: &str) -> bool {
    let name = interface.split('@').next().unwrap_or(interface);
    C::RESTRICTED.contains(&name)
}

/// The host's side of `wit/`.
#[allow(missing_docs)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "speech:pipeline/host",
        imports: { default: async | trappable },
        with: { "speech:pipeline/inference.transcription": super::inference::Transcription },
    });
}
