//! Triggers turn events into invocations of components. Each is a module that implements [`Trigger`]: its section of the manifest,
//! what a component must export, and how an event finds its component.
//!
//! To add one, implement [`Trigger`] in a new module, and add a line to the list below.

mod arrival;
mod call;
mod cron;
pub mod http;
mod nats;
mod trigger;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use manifest::{Manifest, Section};
use tokio_util::sync::CancellationToken;

use self::cron::Cron;
use self::http::Http;
use self::nats::Nats;
use crate::engine::{Component, Outline};
pub(crate) use trigger::Sources;
use trigger::Trigger;

macro_rules! triggers {
    ($($name:ident: $trigger:ty,)*) => {
        /// The handlers of a component, one per trigger that names it.
        #[derive(Clone)]
        pub(crate) struct Handlers {
            $($name: Option<Arc<<$trigger as Trigger>::Handler>>,)*
        }

        /// The tables of an application, which lead from events to components.
        pub(crate) struct Tables {
            $(pub(crate) $name: <$trigger as Trigger>::Table,)*
            /// Cancelled when the triggers end.
            stop: CancellationToken,
        }

        /// When the application is no longer served, its triggers end.
        impl Drop for Tables {
            fn drop(&mut self) {
                self.stop.cancel();
            }
        }

        /// Returns the manifest sections of all triggers.
        pub(crate) fn sections() -> Vec<Section> {
            vec![$(<$trigger as Trigger>::section(),)*]
        }

        /// Returns the ids of the components that triggers name.
        pub(crate) fn components(manifest: &Manifest) -> BTreeSet<&str> {
            let mut ids = BTreeSet::new();
            $(ids.extend(<$trigger as Trigger>::components(manifest));)*
            ids
        }

        /// Checks that a component exports what the triggers that name it call.
        pub(crate) fn check(manifest: &Manifest, id: &str, outline: &Outline) -> anyhow::Result<()> {
            $(if <$trigger as Trigger>::components(manifest).contains(&id) {
                <$trigger as Trigger>::check(id, outline)?;
            })*
            Ok(())
        }

        impl Handlers {
            /// Creates a handler for each trigger that names the component, reusing those in `existing`.
            pub(crate) fn new(
                manifest: &Manifest,
                component: &Arc<Component>,
                existing: Option<&Self>,
            ) -> anyhow::Result<Self> {
                let id = &*component.target().id;
                Ok(Self {
                    $($name: match <$trigger as Trigger>::components(manifest).contains(&id) {
                        true => Some(match existing.and_then(|existing| existing.$name.clone()) {
                            Some(handler) => handler,
                            None => Arc::new(<$trigger as Trigger>::handler(component)?),
                        }),
                        false => None,
                    },)*
                })
            }

            /// Returns the interfaces through which the component is called.
            pub(crate) fn interfaces(&self) -> Vec<String> {
                let mut interfaces = Vec::new();
                $(interfaces.extend(self.$name.as_deref().map(<$trigger as Trigger>::interface));)*
                interfaces
            }
        }

        impl Tables {
            /// Creates the tables. Their triggers end when `stop` is cancelled, or with them.
            pub(crate) fn new(
                manifest: &Manifest,
                handlers: &BTreeMap<&str, Handlers>,
                sources: &Sources,
                stop: CancellationToken,
            ) -> anyhow::Result<Self> {
                Ok(Self {
                    $($name: {
                        let handlers = handlers
                            .iter()
                            .filter_map(|(&id, handlers)| Some((id, handlers.$name.clone()?)))
                            .collect();
                        <$trigger as Trigger>::table(manifest, &handlers, sources)?
                    },)*
                    stop,
                })
            }

            /// Starts the triggers of an application that is served from now on, instead of that of the tables `previous`.
            pub(crate) fn start(&self, previous: Option<&Self>, sources: &Sources) {
                $({
                    let previous = previous.map(|previous| &previous.$name);
                    <$trigger as Trigger>::start(&self.$name, previous, sources, &self.stop);
                })*
            }

            /// Describes the events that lead to a component, for people.
            pub(crate) fn describe(&self, id: &str) -> Vec<String> {
                let mut events = Vec::new();
                $(events.extend(<$trigger as Trigger>::describe(&self.$name, id));)*
                events
            }
        }
    };
}

triggers! {
    http: Http,
    nats: Nats,
    cron: Cron,
}
