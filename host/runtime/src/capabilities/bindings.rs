//! The host's side of `wit/`.
#![allow(missing_docs)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "speech:pipeline/host",
    imports: {
        "speech:pipeline/tracing": trappable,
        default: async | trappable,
    },
    with: {
        "speech:pipeline/inference.transcription": super::transcription::Transcription,
        "speech:pipeline/tracing.span": super::timed_span::TimedSpan,
    },
});
