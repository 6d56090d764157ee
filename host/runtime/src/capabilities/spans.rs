//! `speech:pipeline/tracing`: spans of a component in the trace of its request. It needs no grant: spans reach nobody but the host.

use std::sync::Arc;

use telemetry::SPANS;
use tracing::Span;
use tracing::field::Empty;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use super::bindings::speech::pipeline::tracing as wit;
use super::capability::{self, Capability};
use super::resources::Resources;
use super::timed_span::TimedSpan;
use crate::invocation::{Output, ParentSpan};
use manifest::{Component, Limits, Manifest};

/// Maximum number of spans of one invocation.
const MAX_SPANS: usize = 128;
/// Maximum length of a span's name, in bytes.
const MAX_NAME: usize = 64;

/// Spans of components.
pub struct Spans;

/// The invocation that an instance's spans belong to.
pub(crate) struct State {
    parent: ParentSpan,
    /// Of the invocation. `None` before the first one.
    output: Option<Arc<Output>>,
    /// Spans of the invocation so far.
    spans: usize,
}

/// An instance's invocation and its table of resources.
pub(crate) struct View<'a> {
    state: &'a mut State,
    table: &'a mut ResourceTable,
}

/// Tells the linker which part of an instance the interface works on.
struct Access;

impl HasData for Access {
    type Data<'a> = View<'a>;
}

impl Capability for Spans {
    const OPEN: &'static [&'static str] = &["speech:pipeline/tracing"];
    const HOW_TO_GRANT: &'static str = "every component has it";
    type Grant = ();
    type State = State;

    fn new(_: &Resources) -> anyhow::Result<Self> {
        Ok(Self)
    }

    fn link<T: capability::Access<Self>>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
        wit::add_to_linker::<_, Access>(linker, |instance| {
            let (state, table) = instance.access();
            View { state, table }
        })
    }

    fn is_granted(_: &Component) -> bool {
        false
    }

    fn grant(&self, _: &Manifest, _: &Component) -> anyhow::Result<Option<()>> {
        Ok(None)
    }

    fn describe((): &()) -> String {
        String::new()
    }

    fn state(&self, _: Option<&()>, _: &Limits) -> State {
        State {
            parent: ParentSpan::default(),
            output: None,
            spans: 0,
        }
    }

    fn begin(state: &mut State, span: &ParentSpan, output: &Arc<Output>) {
        *state = State {
            parent: span.clone(),
            output: Some(Arc::clone(output)),
            spans: 0,
        };
    }
}

impl State {
    /// Creates a span of the component, if the parent is enabled.
    fn span(&mut self, parent: &Span, name: &str) -> Span {
        if parent.is_disabled() {
            return Span::none();
        }
        self.spans += 1;
        if self.spans <= MAX_SPANS {
            let name = &name[..name.floor_char_boundary(MAX_NAME)];
            return tracing::trace_span!(target: SPANS, parent: parent, "component", otel.name = name, busy_ns = Empty);
        }
        if self.spans == MAX_SPANS + 1
            && let Some(output) = &self.output
        {
            let message =
                format!("the invocation has more than {MAX_SPANS} spans; the others are dropped");
            output.warn(&message, None, None);
        }
        Span::none()
    }
}

impl wit::Host for View<'_> {}

impl wit::HostSpan for View<'_> {
    fn new(&mut self, name: String) -> wasmtime::Result<Resource<TimedSpan>> {
        let parent = self.state.parent.get();
        let span = self.state.span(&parent, &name);
        Ok(self.table.push(TimedSpan::new(span))?)
    }

    fn enter(&mut self, this: Resource<TimedSpan>) -> wasmtime::Result<()> {
        self.table.get_mut(&this)?.enter();
        Ok(())
    }

    fn exit(&mut self, this: Resource<TimedSpan>) -> wasmtime::Result<()> {
        self.table.get_mut(&this)?.exit();
        Ok(())
    }

    fn drop(&mut self, this: Resource<TimedSpan>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_has_a_limited_number_of_spans() {
        let subscriber = tracing_subscriber::registry();
        tracing::subscriber::with_default(subscriber, || {
            let mut state = State {
                parent: ParentSpan::default(),
                output: None,
                spans: 0,
            };
            let parent = tracing::trace_span!(target: SPANS, "invocation");
            let mut is_recorded = |name: &str| !state.span(&parent, name).is_disabled();
            assert!((0..MAX_SPANS).all(|_| is_recorded(&"x".repeat(1000))));
            assert!(!is_recorded("further"));
        });
    }
}
