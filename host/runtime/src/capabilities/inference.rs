//! `speech:pipeline/inference`: speech recognition with the models that the host was started with.

use std::collections::BTreeMap;
use std::sync::Arc;

use inference::Engine;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use super::bindings::speech::pipeline::inference as wit;
use super::capability::{self, Capability};
use super::resources::Resources;
use super::transcription::Transcription;
use crate::invocation::{Output, ParentSpan};
use manifest::{Component, Limits, Manifest};

/// The loaded models, by the id used in `ai_models`. `None`: other hosts have them.
pub struct Inference(Option<BTreeMap<String, Arc<Engine>>>);

/// The models that one component may use; the first is its default.
pub(crate) type Models = Arc<[(String, Arc<Engine>)]>;

/// Limit on concurrent transcriptions of one instance: the host holds their frames, outside of the instance's memory limit.
const MAX_TRANSCRIPTIONS: usize = 4;

/// An instance's models and its number of transcriptions.
pub(crate) struct State {
    models: Models,
    transcriptions: usize,
    span: ParentSpan,
    /// Of the invocation. `None` before the first one.
    output: Option<Arc<Output>>,
}

/// An instance's models and its table of resources.
pub(crate) struct View<'a> {
    state: &'a mut State,
    table: &'a mut ResourceTable,
}

/// Tells the linker which part of an instance the interface works on.
struct Access;

impl HasData for Access {
    type Data<'a> = View<'a>;
}

impl Capability for Inference {
    const RESTRICTED: &'static [&'static str] = &["speech:pipeline/inference"];
    const HOW_TO_GRANT: &'static str = "write `ai_models = [\"whisper\"]` under [component.ID], or deploy it with --ai-model whisper";
    type Grant = Models;
    type State = State;

    fn new(resources: &Resources) -> anyhow::Result<Self> {
        Ok(Self(resources.models.clone()))
    }

    fn link<T: capability::Access<Self>>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
        wit::add_to_linker::<_, Access>(linker, |instance| {
            let (state, table) = instance.access();
            View { state, table }
        })
    }

    fn is_granted(component: &Component) -> bool {
        !component.ai_models.is_empty()
    }

    fn grant(&self, _: &Manifest, component: &Component) -> anyhow::Result<Option<Models>> {
        let Some(loaded) = &self.0 else {
            // Its requests go to other hosts.
            return Ok((!component.ai_models.is_empty()).then(|| Arc::from([])));
        };
        let models: Models = component
            .ai_models
            .iter()
            .map(|id| match loaded.get(id) {
                Some(engine) => Ok((id.clone(), Arc::clone(engine))),
                None if loaded.is_empty() => anyhow::bail!(
                    "ai_models names \"{id}\", but this host was started without a model, because no component of its \
                     manifest names one; name one in the manifest, and restart the host"
                ),
                None => anyhow::bail!(
                    "ai_models names \"{id}\", but the models of this host are: {}; name one of them, or start the host with \
                     `--model {id}=MODEL` in addition to the others",
                    loaded.keys().cloned().collect::<Vec<_>>().join(", ")
                ),
            })
            .collect::<Result<_, _>>()?;
        Ok((!models.is_empty()).then_some(models))
    }

    fn describe(grant: &Models) -> String {
        let ids: Vec<&str> = grant.iter().map(|(id, _)| id.as_str()).collect();
        match ids.is_empty() {
            true => "inference on workers".into(),
            false => format!("inference with {}", ids.join(", ")),
        }
    }

    fn state(&self, grant: Option<&Models>, _: &Limits) -> State {
        State {
            models: grant.cloned().unwrap_or_else(|| Arc::from([])),
            transcriptions: 0,
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
    /// Returns an error for the component. Why the model failed is only logged, once for each transcription.
    fn report(&self, error: inference::Error, reported: &mut bool) -> wit::Error {
        use inference::Error;
        match error {
            Error::UnsupportedLanguage(message) => wit::Error::UnsupportedLanguage(message),
            Error::UnsupportedOption(message) => wit::Error::UnsupportedOption(message),
            Error::InvalidOption(message) => wit::Error::InvalidOption(message),
            Error::InvalidFrames(message) => wit::Error::InvalidFrames(message),
            Error::InvalidState(message) => wit::Error::InvalidState(message),
            Error::Overloaded { retry_after } => wit::Error::Overloaded(retry_after),
            Error::Internal(reason) => {
                if let Some(output) = &self.output
                    && !std::mem::replace(reported, true)
                {
                    output.error("the model failed", &reason);
                }
                wit::Error::Internal("the model failed; the host's log has the reason".into())
            }
        }
    }
}

impl View<'_> {
    fn start(&self, options: wit::Options) -> Result<Transcription, wit::Error> {
        let granted = &self.state.models;
        let found = match &options.model {
            Some(id) => granted.iter().find(|(granted, _)| granted == id),
            None => granted.first(),
        };
        let Some((id, engine)) = found else {
            let ids: Vec<&str> = granted.iter().map(|(id, _)| id.as_str()).collect();
            return Err(wit::Error::AccessDenied(format!(
                "the component may not use that model; it may use: {}",
                ids.join(", ")
            )));
        };
        if self.state.transcriptions >= MAX_TRANSCRIPTIONS {
            return Err(wit::Error::InvalidState(format!(
                "an instance may have {MAX_TRANSCRIPTIONS} transcriptions at once; drop one first"
            )));
        }
        let inner = engine.start_within(options.into(), self.state.span.get());
        let inner = inner.map_err(|error| self.state.report(error, &mut false))?;
        Ok(Transcription {
            model: id.clone(),
            inner,
            failure_reported: false,
        })
    }
}

impl wit::Host for View<'_> {
    async fn models(&mut self) -> wasmtime::Result<Vec<wit::Model>> {
        let model = |(id, engine): &(String, Arc<Engine>)| {
            let model = engine.model();
            wit::Model {
                id: id.clone(),
                n_mels: u32::try_from(model.n_mels).unwrap_or(u32::MAX),
                window: model.window,
                languages: model.languages.clone(),
            }
        };
        Ok(self.state.models.iter().map(model).collect())
    }

    async fn default_options(&mut self) -> wasmtime::Result<wit::Options> {
        let first = self.state.models.first();
        let options = first.map_or_else(inference::Options::default, |(_, engine)| {
            engine.default_options()
        });
        Ok(options.into())
    }
}

impl wit::HostTranscription for View<'_> {
    async fn start(
        &mut self,
        options: wit::Options,
    ) -> wasmtime::Result<Result<Resource<Transcription>, wit::Error>> {
        match View::start(self, options) {
            Ok(transcription) => {
                self.state.transcriptions += 1;
                Ok(Ok(self.table.push(transcription)?))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    async fn push(
        &mut self,
        this: Resource<Transcription>,
        frames: Vec<f32>,
    ) -> wasmtime::Result<Result<(), wit::Error>> {
        let transcription = self.table.get_mut(&this)?;
        let pushed = transcription.inner.push(frames).await;
        let decoded = transcription.inner.decoded();
        self.state.span.record_progress(decoded);
        Ok(pushed.map_err(|error| {
            self.state
                .report(error, &mut transcription.failure_reported)
        }))
    }

    async fn finish(
        &mut self,
        this: Resource<Transcription>,
    ) -> wasmtime::Result<Result<(), wit::Error>> {
        let transcription = self.table.get_mut(&this)?;
        let finished = transcription.inner.finish();
        Ok(finished.map_err(|error| {
            self.state
                .report(error, &mut transcription.failure_reported)
        }))
    }

    async fn next(
        &mut self,
        this: Resource<Transcription>,
    ) -> wasmtime::Result<Result<Option<wit::Segment>, wit::Error>> {
        let transcription = self.table.get_mut(&this)?;
        let next = transcription.inner.next().await;
        let decoded = transcription.inner.decoded();
        self.state.span.record_progress(decoded);
        Ok(next
            .map(|segment| segment.map(Into::into))
            .map_err(|error| {
                self.state
                    .report(error, &mut transcription.failure_reported)
            }))
    }

    async fn info(&mut self, this: Resource<Transcription>) -> wasmtime::Result<wit::Info> {
        let transcription = self.table.get(&this)?;
        let info = transcription.inner.info();
        Ok(wit::Info {
            model: transcription.model.clone(),
            language: info.language,
            duration: info.duration,
            windows: info.windows,
        })
    }

    async fn drop(&mut self, this: Resource<Transcription>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        self.state.transcriptions -= 1;
        Ok(())
    }
}

impl From<wit::Options> for inference::Options {
    fn from(options: wit::Options) -> Self {
        Self {
            language: options.language,
            task: match options.task {
                wit::Task::Transcribe => inference::Task::Transcribe,
                wit::Task::Translate => inference::Task::Translate,
            },
            prompt: options.prompt,
            temperatures: options.temperatures,
            beam_size: options.beam_size,
            timestamps: match options.timestamps {
                wit::Timestamps::None => inference::Timestamps::None,
                wit::Timestamps::Segment => inference::Timestamps::Segment,
                wit::Timestamps::Word => inference::Timestamps::Word,
            },
            condition_on_previous_text: options.condition_on_previous_text,
            compression_ratio_threshold: options.compression_ratio_threshold,
            logprob_threshold: options.logprob_threshold,
            no_speech_threshold: options.no_speech_threshold,
        }
    }
}

impl From<inference::Options> for wit::Options {
    fn from(options: inference::Options) -> Self {
        Self {
            model: None,
            language: options.language,
            task: match options.task {
                inference::Task::Transcribe => wit::Task::Transcribe,
                inference::Task::Translate => wit::Task::Translate,
            },
            prompt: options.prompt,
            temperatures: options.temperatures,
            beam_size: options.beam_size,
            timestamps: match options.timestamps {
                inference::Timestamps::None => wit::Timestamps::None,
                inference::Timestamps::Segment => wit::Timestamps::Segment,
                inference::Timestamps::Word => wit::Timestamps::Word,
            },
            condition_on_previous_text: options.condition_on_previous_text,
            compression_ratio_threshold: options.compression_ratio_threshold,
            logprob_threshold: options.logprob_threshold,
            no_speech_threshold: options.no_speech_threshold,
        }
    }
}

impl From<inference::Segment> for wit::Segment {
    fn from(segment: inference::Segment) -> Self {
        Self {
            start: segment.start,
            end: segment.end,
            text: segment.text,
            avg_logprob: segment.avg_logprob,
            no_speech_prob: segment.no_speech_prob,
            compression_ratio: segment.compression_ratio,
            temperature: segment.temperature,
            // Options with word timestamps are refused.
            words: Vec::new(),
        }
    }
}
