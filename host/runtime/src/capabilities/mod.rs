//! What the host can lend to a component. Each capability is one module of one shape: the interfaces it provides, how it
//! is linked, which part of the manifest grants it, and what one instance gets.
//!
//! To add one: a module that implements [`Capability`], and a line in the list below.

mod bindings;
mod capability;
mod environment;
mod files;
mod inference;
mod outbound_http;
mod resources;
mod timeseries;
mod transcription;
mod variables;

use std::path::Path;

use manifest::{Component, Limits, Manifest, Section};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::{WasiCtxBuilder, WasiView};
use wasmtime_wasi_http::WasiHttpView;

use capability::{Access, Capability};

use environment::Environment;
use files::Files;
pub(crate) use files::{Mount, selected};
use inference::Inference;
use outbound_http::OutboundHttp;
pub(crate) use outbound_http::State as OutboundState;
pub use resources::Resources;
use timeseries::Timeseries;
use variables::Variables;

macro_rules! capabilities {
    ($($name:ident: $capability:ty,)*) => {
        /// All capabilities of this host.
        pub struct Capabilities {
            $($name: $capability,)*
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
            /// Makes them of what the host has.
            ///
            /// # Errors
            /// When something that the host was given cannot be used.
            pub fn new(resources: &Resources) -> anyhow::Result<Self> {
                Ok(Self { $($name: <$capability as Capability>::new(resources)?,)* })
            }

            /// What each capability has under `[component.ID.tool.whisper-host]`.
            pub(crate) fn sections() -> Vec<Section> {
                let mut sections = Vec::new();
                $(sections.extend(<$capability as Capability>::section());)*
                sections
            }

            pub(crate) fn link<T: HasStates>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
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
                $(contains(<$capability as Capability>::RESTRICTED, interface))||*
            }

            /// Whether an interface gives access to something that is granted to the component with this manifest entry, or might be.
            pub(crate) fn gives(component: &Component, interface: &str) -> bool {
                $(contains(<$capability as Capability>::RESTRICTED, interface)
                    || contains(<$capability as Capability>::OPEN, interface)
                        && <$capability as Capability>::is_granted(component))||*
            }
        }

        impl States {
            /// The instance begins another invocation, with this span.
            pub(crate) fn begin(&mut self, span: &tracing::Span) {
                $(<$capability as Capability>::begin(&mut self.$name, span);)*
            }
        }

        $(impl<T: HasStates> Access<$capability> for T {
            fn access(&mut self) -> (&mut <$capability as Capability>::State, &mut ResourceTable) {
                let (states, table) = self.states();
                (&mut states.$name, table)
            }
        })*

        impl Grants {
            /// How to grant the interface `import`, where that is needed and was not done.
            pub(crate) fn missing(&self, import: &str) -> Option<&'static str> {
                $(if self.$name.is_none() && contains(<$capability as Capability>::RESTRICTED, import) {
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
    environment: Environment,
    files: Files,
}

impl Grants {
    /// The folder, named by its content, of the files that the component sees.
    pub(crate) fn files(&self) -> Option<&Path> {
        self.files.as_ref().map(Mount::folder)
    }
}

/// An instance that has a state of each capability.
pub(crate) trait HasStates: WasiView + WasiHttpView + Send + 'static {
    fn states(&mut self) -> (&mut States, &mut ResourceTable);
}

fn contains(interfaces: &[&str], interface: &str) -> bool {
    let name = interface.split('@').next().unwrap_or(interface);
    interfaces.contains(&name)
}
