//! What calls components. Each trigger is one module of one shape: which part of the manifest is its own, what a component must
//! export for it, and what leads from its kind of event to a component. It turns an event into an invocation.
//!
//! To add one: a module that implements [`Trigger`], and a line in the list below.

pub mod http;
mod trigger;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use manifest::{Manifest, Section};

use self::http::Http;
use crate::engine::{Component, Outline};
use trigger::Trigger;

macro_rules! triggers {
    ($($name:ident: $trigger:ty,)*) => {
        /// A component, as each trigger that names it calls it.
        #[derive(Clone)]
        pub(crate) struct Handlers {
            $($name: Option<Arc<<$trigger as Trigger>::Handler>>,)*
        }

        /// What leads from events to the components of an application.
        pub(crate) struct Tables {
            $(pub(crate) $name: <$trigger as Trigger>::Table,)*
        }

        /// What each trigger has in the manifest.
        pub(crate) fn sections() -> Vec<Section> {
            vec![$(<$trigger as Trigger>::section(),)*]
        }

        /// The ids of the components that triggers name.
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
            /// A handler for each trigger that names the component; those that there are `already` go on as they are.
            pub(crate) fn new(
                manifest: &Manifest,
                component: &Arc<Component>,
                already: Option<&Self>,
            ) -> anyhow::Result<Self> {
                let id = &*component.target().id;
                Ok(Self {
                    $($name: match <$trigger as Trigger>::components(manifest).contains(&id) {
                        true => Some(match already.and_then(|already| already.$name.clone()) {
                            Some(handler) => handler,
                            None => Arc::new(<$trigger as Trigger>::handler(component)?),
                        }),
                        false => None,
                    },)*
                })
            }

            /// The interfaces through which it is called.
            pub(crate) fn interfaces(&self) -> Vec<String> {
                let mut interfaces = Vec::new();
                $(interfaces.extend(self.$name.as_deref().map(<$trigger as Trigger>::interface));)*
                interfaces
            }
        }

        impl Tables {
            pub(crate) fn new(manifest: &Manifest, handlers: &BTreeMap<&str, Handlers>) -> anyhow::Result<Self> {
                Ok(Self {
                    $($name: {
                        let handlers = handlers
                            .iter()
                            .filter_map(|(&id, of)| Some((id, of.$name.clone()?)))
                            .collect();
                        <$trigger as Trigger>::table(manifest, &handlers)?
                    },)*
                })
            }

            /// Begins to call the components of an application that is served from now on.
            pub(crate) fn start(&self) {
                $(<$trigger as Trigger>::start(&self.$name);)*
            }

            /// What leads to a component, for people.
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
}
