//! The host's side of `wit/`.
#![allow(missing_docs)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "speech:pipeline/host",
    imports: { default: async | trappable },
    with: { "speech:pipeline/inference.transcription": super::transcription::Transcription },
});
