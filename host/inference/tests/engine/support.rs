//! Test support: paths of the model and ONNX Runtime, and recordings as frames.

use std::path::{Path, PathBuf};

use inference::metrics::*;
use inference::{
    Config, Device, Engine, Error, LoadError, Options, Precision, Segment, Transcription,
};
use telemetry::Metrics;

/// The workspace's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The test model.
pub fn synthetic() -> PathBuf {
    root().join("test/models/synthetic")
}

fn library() -> PathBuf {
    let library = std::env::var_os("ORT_DYLIB_PATH").map_or_else(
        || root().join(".tools/onnxruntime/libonnxruntime.so"),
        PathBuf::from,
    );
    assert!(
        library.is_file(),
        "these tests need ONNX Runtime: `{}` is missing; run `make setup`, or set ORT_DYLIB_PATH to libonnxruntime.so",
        library.display()
    );
    library
}

/// The default settings of tests: the given model on the CPU.
pub fn config(model: impl Into<PathBuf>) -> Config {
    Config {
        device: Device::Cpu,
        threads: 2,
        ..Config::new(model, library())
    }
}

/// An engine with its own metrics.
pub struct Measured {
    engine: Engine,
    name: String,
    metrics: Metrics,
}

/// Values of an engine's metrics.
#[derive(Debug)]
pub struct Values {
    pub transcriptions: u64,
    pub queued_windows: u64,
    pub windows: u64,
    pub batches: u64,
    pub encoder_seconds: f64,
    pub decoder_seconds: f64,
    pub tokens: u64,
}

impl std::ops::Deref for Measured {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Measured {
    pub fn load(config: Config) -> Result<Self, LoadError> {
        let (name, metrics) = (config.name.clone(), Metrics::default());
        let engine = metrics::with_local_recorder(&metrics, || Engine::load(config))?;
        Ok(Self {
            engine,
            name,
            metrics,
        })
    }

    pub fn metrics(&self) -> Values {
        let labels = [(MODEL, &*self.name)];
        let counter = |name| self.metrics.counter(name, &labels);
        let gauge = |name| self.metrics.gauge(name, &labels) as u64;
        let sum = |name| self.metrics.histogram(name, &labels).sum;
        Values {
            transcriptions: gauge(TRANSCRIPTIONS_ACTIVE),
            queued_windows: gauge(WINDOWS_WAITING),
            windows: counter(WINDOWS),
            batches: counter(BATCHES),
            encoder_seconds: sum(ENCODER_DURATION),
            decoder_seconds: sum(DECODER_DURATION),
            tokens: counter(TOKENS),
        }
    }
}

/// An engine with the test model.
pub fn engine() -> Measured {
    Measured::load(config(synthetic())).expect("the test model loads")
}

/// An engine with the fp32 files of the test model.
pub fn engine_fp32() -> Measured {
    Measured::load(Config {
        precision: Precision::Fp32,
        ..config(synthetic())
    })
    .expect("the test model loads")
}

/// Frames of a recording, `[frames, 80]`; see `make_fixtures.py`.
pub fn frames(name: &str) -> Vec<f32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.f16"));
    std::fs::read(path)
        .unwrap()
        .chunks_exact(2)
        .map(|bytes| half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32())
        .collect()
}

/// The spoken text of a recording (`spoken`), or its expected transcript by greedy decoding or beam search (`greedy`, `beam`).
pub fn expected(name: &str, what: &str) -> String {
    let text = include_str!("../fixtures/expected.json");
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    json[name][what].as_str().unwrap().to_owned()
}

/// Pushes a recording in blocks of one second, and finishes.
pub async fn feed(transcription: &Transcription, frames: &[f32]) {
    for block in frames.chunks(80 * 100) {
        transcription.push(block.to_vec()).await.unwrap();
    }
    transcription.finish().unwrap();
}

/// Collects all segments.
pub async fn collect(transcription: &Transcription) -> Result<Vec<Segment>, Error> {
    let mut segments = Vec::new();
    while let Some(segment) = transcription.next().await? {
        segments.push(segment);
    }
    Ok(segments)
}

/// Transcribes a recording.
pub async fn transcribe(engine: &Engine, frames: &[f32], options: Options) -> Vec<Segment> {
    let transcription = engine.start(options).unwrap();
    feed(&transcription, frames).await;
    collect(&transcription).await.unwrap()
}

/// Returns the text of segments.
pub fn text(segments: &[Segment]) -> String {
    let texts: Vec<_> = segments
        .iter()
        .map(|segment| segment.text.as_str())
        .collect();
    texts.join(" ")
}

/// Splits a text into lower-case words without punctuation.
pub fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Counts the word errors (Levenshtein distance) of a text.
pub fn word_errors(spoken: &str, transcript: &str) -> usize {
    let (spoken, transcript) = (words(spoken), words(transcript));
    let mut row: Vec<usize> = (0..=transcript.len()).collect();
    for (index, word) in spoken.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 1..=transcript.len() {
            let substituted = diagonal + usize::from(*word != transcript[column - 1]);
            diagonal = row[column];
            row[column] = substituted.min(row[column] + 1).min(row[column - 1] + 1);
        }
    }
    row[transcript.len()]
}
