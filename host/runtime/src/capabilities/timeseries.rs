//! `speech:pipeline/timeseries`: the store of points.

use std::sync::Arc;

use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use wasmtime::component::{HasData, Linker};

use super::bindings::speech::pipeline::timeseries as wit;
use super::capability::{self, Capability};
use super::resources::Resources;
use crate::invocation::{Output, ParentSpan};
use manifest::{Component, Limits, Manifest, Section};

/// The field `timeseries = true`.
const FIELD: &str = "timeseries";

/// The host's store.
pub struct Timeseries(Arc<timeseries::Store>);

/// The store, if the component may use it.
pub(crate) struct State {
    store: Option<Arc<timeseries::Store>>,
    span: ParentSpan,
    /// Of the invocation. `None` before the first one.
    output: Option<Arc<Output>>,
}

/// Tells the linker which part of an instance the interface works on.
struct Access;

impl HasData for Access {
    type Data<'a> = &'a mut State;
}

impl Capability for Timeseries {
    const RESTRICTED: &'static [&'static str] = &["speech:pipeline/timeseries"];
    const HOW_TO_GRANT: &'static str = "write `timeseries = true` under [component.ID.tool.whisper-host], or deploy it with --timeseries";
    type Grant = ();
    type State = State;

    fn new(resources: &Resources) -> anyhow::Result<Self> {
        Ok(Self(Arc::clone(&resources.store)))
    }

    fn link<T: capability::Access<Self>>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
        wit::add_to_linker::<_, Access>(linker, |instance| instance.access().0)
    }

    fn section() -> Option<Section> {
        Some(Section::of::<bool>(FIELD))
    }

    fn is_granted(component: &Component) -> bool {
        let grants = &component.tool.whisper_host.grants;
        grants.get(FIELD).and_then(toml::Value::as_bool) == Some(true)
    }

    fn grant(&self, _: &Manifest, component: &Component) -> anyhow::Result<Option<()>> {
        Ok(Self::is_granted(component).then_some(()))
    }

    fn describe((): &()) -> String {
        "time-series store".into()
    }

    fn state(&self, grant: Option<&()>, _: &Limits) -> State {
        State {
            store: grant.map(|()| Arc::clone(&self.0)),
            span: ParentSpan::default(),
            output: None,
        }
    }

    fn begin(state: &mut State, span: &ParentSpan, output: &Arc<Output>) {
        state.span = span.clone();
        state.output = Some(Arc::clone(output));
    }
}

impl State {
    /// Returns the store, and the span of a call to it.
    fn call(&self, operation: &str) -> Result<(&timeseries::Store, Span), wit::Error> {
        let store = self.store.as_deref().ok_or_else(|| {
            wit::Error::Unavailable("the component was not granted the store".into())
        })?;
        let span = tracing::trace_span!(
            target: telemetry::SPANS,
            parent: &self.span.get(),
            "timeseries",
            otel.kind = "client",
            db.system.name = store.system(),
            db.operation.name = operation,
            db.operation.batch.size = Empty,
        );
        Ok((store, span))
    }

    /// Returns an error for the component.
    fn report(&self, error: timeseries::Error) -> wit::Error {
        match error {
            timeseries::Error::Invalid(message) => wit::Error::Invalid(message),
            timeseries::Error::Unavailable(message) => {
                if let Some(output) = &self.output {
                    output.warn(
                        "a call to the time-series store failed",
                        None,
                        Some(&message),
                    );
                }
                wit::Error::Unavailable(message)
            }
        }
    }
}

impl wit::Host for State {
    async fn write(&mut self, points: Vec<wit::Point>) -> wasmtime::Result<Result<(), wit::Error>> {
        let (store, span) = match self.call("write") {
            Ok(call) => call,
            Err(error) => return Ok(Err(error)),
        };
        span.record("db.operation.batch.size", points.len());
        let points = points.into_iter().map(Into::into).collect();
        let written = store.write(points).instrument(span).await;
        Ok(written.map_err(|error| self.report(error)))
    }

    async fn aggregate(
        &mut self,
        query: wit::Query,
    ) -> wasmtime::Result<Result<Option<f64>, wit::Error>> {
        let (store, span) = match self.call("aggregate") {
            Ok(call) => call,
            Err(error) => return Ok(Err(error)),
        };
        let value = store.aggregate(query.into()).instrument(span).await;
        Ok(value.map_err(|error| self.report(error)))
    }
}

impl From<wit::Point> for timeseries::Point {
    fn from(point: wit::Point) -> Self {
        Self {
            measurement: point.measurement,
            time: point.time,
            tags: point.tags,
            fields: point
                .fields
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect(),
        }
    }
}

impl From<wit::Value> for timeseries::Value {
    fn from(value: wit::Value) -> Self {
        match value {
            wit::Value::Float(value) => Self::Float(value),
            wit::Value::Integer(value) => Self::Integer(value),
            wit::Value::Text(value) => Self::Text(value),
            wit::Value::Boolean(value) => Self::Boolean(value),
        }
    }
}

impl From<wit::Query> for timeseries::Query {
    fn from(query: wit::Query) -> Self {
        Self {
            measurement: query.measurement,
            field: query.field,
            aggregation: match query.aggregation {
                wit::Aggregation::Count => timeseries::Aggregation::Count,
                wit::Aggregation::Sum => timeseries::Aggregation::Sum,
                wit::Aggregation::Min => timeseries::Aggregation::Min,
                wit::Aggregation::Max => timeseries::Aggregation::Max,
                wit::Aggregation::Mean => timeseries::Aggregation::Mean,
                wit::Aggregation::Median => timeseries::Aggregation::Median,
                wit::Aggregation::Quantile(share) => timeseries::Aggregation::Quantile(share),
            },
            start: query.start,
            stop: query.stop,
            tags: query.tags,
        }
    }
}
