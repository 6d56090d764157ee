//! Capabilities that the host can grant to a component. Each is a module that implements [`Capability`]: the interfaces it
//! provides, how they are linked, which part of the manifest grants it, and its state per instance.
//!
//! To add one, implement [`Capability`] in a new module, and add a line to the list below.

mod bindings;
mod capability;
mod environment;
mod files;
mod inference;
mod messaging;
mod outbound_http;
mod resources;
mod spans;
mod timed_span;
mod timeseries;
mod transcription;
mod variables;

use std::path::Path;
use std::sync::Arc;

use crate::invocation::{Output, ParentSpan};
use manifest::{Component, Limits, Manifest, Section};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::{WasiCtxBuilder, WasiView};
use wasmtime_wasi_http::WasiHttpView;

use capability::{Access, Capability};

use environment::Environment;
use files::Files;
pub use files::MAX_OPEN_FILES;
pub(crate) use files::{Mount, selected_files};
use inference::{Inference, Models};
use messaging::Messaging;
pub(crate) use messaging::{Answer, Handled};
use outbound_http::OutboundHttp;
pub(crate) use outbound_http::{Servers, State as OutboundState};
pub use resources::Resources;
use spans::Spans;
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

        /// The state of each capability of an instance.
        pub(crate) struct States {
            $(
                #[allow(dead_code, reason = "capabilities provided through WASI need no state")]
                pub(crate) $name: <$capability as Capability>::State,
            )*
        }

        impl Capabilities {
            /// Creates the capabilities from the host's resources.
            ///
            /// # Errors
            /// When a resource cannot be used.
            pub fn new(resources: &Resources) -> anyhow::Result<Self> {
                Ok(Self { $($name: <$capability as Capability>::new(resources)?,)* })
            }

            /// Returns the fields of the capabilities under `[component.ID.tool.whisper-host]`.
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

            /// Returns whether an interface is one of this host.
            pub(crate) fn is_provided(interface: &str) -> bool {
                $(contains(<$capability as Capability>::RESTRICTED, interface)
                    || contains(<$capability as Capability>::OPEN, interface))||*
            }

            /// Returns whether an interface gives access to something that this manifest entry grants, or could grant.
            pub(crate) fn grants_access(component: &Component, interface: &str) -> bool {
                $(contains(<$capability as Capability>::RESTRICTED, interface)
                    || contains(<$capability as Capability>::OPEN, interface)
                        && <$capability as Capability>::is_granted(component))||*
            }
        }

        impl States {
            /// Called when another invocation starts, with its span and its output.
            pub(crate) fn begin(&mut self, span: &ParentSpan, output: &Arc<Output>) {
                $(<$capability as Capability>::begin(&mut self.$name, span, output);)*
            }
        }

        $(impl<T: HasStates> Access<$capability> for T {
            fn access(&mut self) -> (&mut <$capability as Capability>::State, &mut ResourceTable) {
                let (states, table) = self.states();
                (&mut states.$name, table)
            }
        })*

        impl Grants {
            /// Returns how to grant the interface `import`, if it needs a grant that is missing.
            pub(crate) fn missing(&self, import: &str) -> Option<&'static str> {
                $(if self.$name.is_none() && contains(<$capability as Capability>::RESTRICTED, import) {
                    return Some(<$capability as Capability>::HOW_TO_GRANT);
                })*
                None
            }

            /// Adds what is granted through WASI itself to an instance's WASI context.
            pub(crate) fn extend(&self, wasi: &mut WasiCtxBuilder) -> wasmtime::Result<()> {
                $(if let Some(grant) = &self.$name {
                    <$capability as Capability>::extend(grant, wasi)?;
                })*
                Ok(())
            }

            /// Describes each grant in one line.
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
    messaging: Messaging,
    spans: Spans,
}

impl Grants {
    /// Returns the models that the component may use, if any.
    pub(crate) fn models(&self) -> Option<&Models> {
        self.inference.as_ref()
    }

    /// Returns the servers that the component may send requests to, if any.
    pub(crate) fn servers(&self) -> Option<&Arc<Servers>> {
        self.outbound_http.as_ref()
    }

    /// Returns the folder of the component's files, named by its content.
    pub(crate) fn files(&self) -> Option<&Path> {
        self.files.as_ref().map(Mount::folder)
    }
}

/// An instance with the states of all capabilities.
pub(crate) trait HasStates: WasiView + WasiHttpView + Send + 'static {
    fn states(&mut self) -> (&mut States, &mut ResourceTable);
}

fn contains(interfaces: &[&str], interface: &str) -> bool {
    let name = interface.split('@').next().unwrap_or(interface);
    interfaces.contains(&name)
}
