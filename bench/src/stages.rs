//! Runs the component `audio`, and a part of it, in the host's wasmtime without the host.
//!
//! Each run uses a fresh instance, like a request, created before the measurement: instantiation is the host's work.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

mod whole {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({ path: "../wit", world: "speech:pipeline/audio" });
}

mod part {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({ path: "stages/stages.wit", world: "stages" });
}

use whole::exports::speech::pipeline::features::{Error, Hint};

pub struct Stages {
    engine: Engine,
    audio: whole::AudioPre<State>,
    decode: part::StagesPre<State>,
}

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl Stages {
    /// Compiles the components in this folder.
    pub fn load(components: &Path) -> anyhow::Result<Self> {
        // Like the host: epoch checks are part of the measured code.
        let mut config = Config::new();
        config.epoch_interruption(true);
        let engine = Engine::new(&config).map_err(anyhow::Error::from)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).map_err(anyhow::Error::from)?;
        let load = |name: &str| -> anyhow::Result<InstancePre<State>> {
            let component = Component::from_file(&engine, components.join(name))
                .map_err(anyhow::Error::from)
                .with_context(|| format!("cannot load {name}"))?;
            linker
                .instantiate_pre(&component)
                .map_err(anyhow::Error::from)
        };
        let audio = load("audio.wasm")?;
        let decode = load("bench-stages.wasm")?;
        Ok(Self {
            audio: whole::AudioPre::new(audio).map_err(anyhow::Error::from)?,
            decode: part::StagesPre::new(decode).map_err(anyhow::Error::from)?,
            engine,
        })
    }

    /// Converts bytes to log-mel frames. Returns the time, and the seconds of audio.
    pub fn features(&self, bytes: &[u8], n_mels: u32) -> anyhow::Result<(Duration, f64)> {
        let mut store = self.store();
        let audio = self
            .audio
            .instantiate(&mut store)
            .map_err(anyhow::Error::from)?;
        let timed = |store: &mut Store<State>| -> wasmtime::Result<Result<(Duration, f64), Error>> {
            let features = audio.speech_pipeline_features();
            let begun = Instant::now();
            let hint = Hint {
                media_type: None,
                file_name: None,
            };
            let recordings = features.recording();
            let recording = recordings.call_constructor(&mut *store, &hint)?;
            recordings.call_append(&mut *store, recording, bytes)?;
            let frames = match recordings.call_open(&mut *store, recording, n_mels)? {
                Ok(frames) => frames,
                Err(error) => return Ok(Err(error)),
            };
            loop {
                match features.frames().call_read(&mut *store, frames)? {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => return Ok(Err(error)),
                }
            }
            let time = begun.elapsed();
            let duration = features.frames().call_duration(&mut *store, frames)?;
            Ok(Ok((time, duration)))
        };
        timed(&mut store)
            .map_err(anyhow::Error::from)?
            .map_err(|error| anyhow!("{error:?}"))
    }

    /// Decodes bytes to samples at 16 kHz. Returns the time.
    pub fn decode(&self, bytes: &[u8]) -> anyhow::Result<Duration> {
        let mut store = self.store();
        let decode = self
            .decode
            .instantiate(&mut store)
            .map_err(anyhow::Error::from)?;
        let begun = Instant::now();
        let decoded = decode.call_decode(&mut store, bytes);
        let time = begun.elapsed();
        decoded
            .map_err(anyhow::Error::from)?
            .map_err(|error| anyhow!(error))?;
        Ok(time)
    }

    fn store(&self) -> Store<State> {
        let state = State {
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(&self.engine, state);
        // There is no ticker, so the epoch stays at 0.
        store.set_epoch_deadline(1);
        store
    }
}
