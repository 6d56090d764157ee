//! `example:random-words/words`: words at random, of those that `random_words` of a component names.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use manifest::{Component, Limits, Manifest, Section};
use wasmtime::component::{HasData, Linker};

use super::capability::{self, Capability};
use super::resources::Resources;

/// `random_words = ["lorem", "ipsum"]`.
const FIELD: &str = "random_words";

/// Lends words.
pub struct RandomWords;

/// The words of a component.
pub(crate) struct State(Arc<[String]>);

/// Tells the linker what of an instance the interface works on.
struct Access;

impl HasData for Access {
    type Data<'a> = &'a mut State;
}

impl Capability for RandomWords {
    const RESTRICTED: &'static [&'static str] = &["example:random-words/words"];
    const HOW_TO_GRANT: &'static str =
        "write `random_words = [\"…\"]` under [component.ID.tool.whisper-host]";
    type Grant = Arc<[String]>;
    type State = State;

    fn new(_: &Resources) -> anyhow::Result<Self> {
        Ok(Self)
    }

    fn section() -> Option<Section> {
        Some(Section::of::<Vec<String>>(FIELD))
    }

    fn link<T: capability::Access<Self>>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
        bindings::example::random_words::words::add_to_linker::<_, Access>(linker, |instance| {
            instance.access().0
        })
    }

    fn is_granted(component: &Component) -> bool {
        component.tool.whisper_host.grants.contains_key(FIELD)
    }

    fn grant(&self, _: &Manifest, component: &Component) -> anyhow::Result<Option<Self::Grant>> {
        let Some(words) = component.tool.whisper_host.grants.get(FIELD) else {
            return Ok(None);
        };
        let words: Vec<String> = words.clone().try_into()?;
        anyhow::ensure!(!words.is_empty(), "`{FIELD}` is empty; name a word, or leave it out");
        Ok(Some(words.into()))
    }

    fn describe(grant: &Self::Grant) -> String {
        format!("{} random words", grant.len())
    }

    fn state(&self, grant: Option<&Self::Grant>, _: &Limits) -> State {
        State(grant.cloned().unwrap_or_default())
    }
}

impl bindings::example::random_words::words::Host for State {
    fn next(&mut self) -> wasmtime::Result<String> {
        let random = RandomState::new().hash_one(()) as usize;
        // Without the grant, the import is refused when the component is loaded.
        let word = self.0.get(random % self.0.len().max(1));
        Ok(word.cloned().unwrap_or_default())
    }
}

/// The host's side of `wit/random-words.wit`.
#[allow(missing_docs)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/random-words.wit",
        world: "example:random-words/host",
        imports: { default: trappable },
    });
}
