//! Speech, noise and silence with a real Whisper model: `tiny.en`, which `make test` downloads to `.tools/models/`.

use std::f32::consts::TAU;
use std::path::{Path, PathBuf};

use audio::LogMel;
use inference::metrics::{MODEL, WINDOWS};
use inference::{Config, Device, Engine, Options, Segment, Transcription};

const RATE: f32 = 16_000.0;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn engine() -> Engine {
    measured().0
}

/// An engine and its metrics.
fn measured() -> (Engine, telemetry::Metrics) {
    let tools = root().join(".tools");
    let model = tools.join("models/tiny.en");
    assert!(
        model.join("config.json").is_file(),
        "these tests need a Whisper model: `{}` is missing; run `make test-model`",
        model.display()
    );
    let library = std::env::var_os("ORT_DYLIB_PATH")
        .map_or_else(|| tools.join("onnxruntime/libonnxruntime.so"), Into::into);
    let config = Config {
        device: Device::Cpu,
        threads: 2,
        ..Config::new(model, library)
    };
    let metrics = telemetry::Metrics::default();
    let engine = metrics::with_local_recorder(&metrics, || Engine::load(config));
    (engine.expect("tiny.en loads"), metrics)
}

/// Returns the number of windows decoded.
fn windows(metrics: &telemetry::Metrics) -> u64 {
    metrics.counter(WINDOWS, &[(MODEL, "tiny.en")])
}

/// Transcribes samples at 16 kHz.
async fn transcribe(engine: &Engine, samples: &[f32]) -> Vec<Segment> {
    let transcription = engine.start(Options::default()).unwrap();
    let mut log_mel = LogMel::new(80).unwrap();
    for block in samples.chunks(16_000) {
        log_mel.push(block);
        while let Some(frames) = log_mel.next_block() {
            transcription.push(frames).await.unwrap();
        }
    }
    log_mel.finish();
    while let Some(frames) = log_mel.next_block() {
        transcription.push(frames).await.unwrap();
    }
    rest(&transcription).await
}

/// Transcribes recordings of `test/audio` by greedy decoding, each followed by `silence` seconds of silence.
async fn transcribe_files(engine: &Engine, names: &[&str], silence: usize) -> Vec<Segment> {
    let transcription = engine
        .start(Options {
            beam_size: 1,
            ..engine.default_options()
        })
        .unwrap();
    for name in names {
        let mut bytes = audio::Bytes::new();
        bytes.append(std::fs::read(root().join("test/audio").join(name)).unwrap());
        let mut frames = audio::Frames::open(bytes, &audio::Hint::default(), 80).unwrap();
        while let Some(block) = frames.read().unwrap() {
            transcription.push(block).await.unwrap();
        }
        for _ in 0..silence {
            transcription.push(vec![-10.0; 100 * 80]).await.unwrap();
        }
    }
    rest(&transcription).await
}

/// Finishes a transcription, and returns its segments.
async fn rest(transcription: &Transcription) -> Vec<Segment> {
    transcription.finish().unwrap();
    let mut segments = Vec::new();
    while let Some(segment) = transcription.next().await.unwrap() {
        segments.push(segment);
    }
    segments
}

/// Samples `seconds` of a signal, a function of time.
fn signal(seconds: f32, at: impl FnMut(f32) -> f32) -> Vec<f32> {
    (0..(seconds * RATE) as usize)
        .map(|i| i as f32 / RATE)
        .map(at)
        .collect()
}

fn tones(t: f32, frequencies: &[f32]) -> f32 {
    let sum: f32 = frequencies.iter().map(|f| (TAU * f * t).sin()).sum();
    0.3 * sum / frequencies.len() as f32
}

/// White noise, uniform between -1 and 1.
fn white() -> impl FnMut() -> f32 {
    let mut state = 1u32;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

#[tokio::test]
async fn steady_noises_and_tones_give_no_words() {
    let engine = engine();
    let mut noise = white();
    let (mut low, mut middle) = (0.0, 0.0);
    let mut rumble = white();
    let clips = [
        ("white noise", signal(60.0, |_| 0.1 * noise())),
        (
            "noise that decreases with frequency",
            signal(60.0, |_| {
                let white = rumble();
                low += 0.01 * (white - low);
                middle += 0.2 * (white - middle);
                0.5 * low + 0.2 * middle + 0.02 * white
            }),
        ),
        (
            "hum",
            signal(60.0, |t| tones(t, &[50.0, 100.0, 150.0, 200.0])),
        ),
        (
            "a chord",
            signal(60.0, |t| tones(t, &[262.0, 330.0, 392.0, 523.0])),
        ),
        (
            "a ringing telephone",
            signal(60.0, |t| {
                if t % 6.0 < 2.0 {
                    tones(t, &[440.0, 480.0])
                } else {
                    0.0
                }
            }),
        ),
        (
            "clicks",
            signal(60.0, |t| {
                let since = t % 0.5;
                0.9 * (-since * 500.0).exp() * (TAU * 2_500.0 * since).cos()
            }),
        ),
    ];
    for (name, samples) in clips {
        assert_eq!(transcribe(&engine, &samples).await, [], "{name}");
    }
}

#[tokio::test]
async fn ten_minutes_of_one_random_bit_are_silent() {
    let (engine, metrics) = measured();
    let mut noise = white();
    let dither = signal(600.0, |_| if noise() > 0.0 { 1.0 / 32_768.0 } else { 0.0 });
    assert_eq!(transcribe(&engine, &dither).await, []);
    assert_eq!(windows(&metrics), 0);
}

#[tokio::test]
async fn a_beep_of_less_than_a_tenth_of_a_second_is_not_decoded() {
    let (engine, metrics) = measured();
    for milliseconds in [10.0, 20.0, 30.0, 40.0, 50.0] {
        let beep = signal(milliseconds / 1000.0, |t| tones(t, &[440.0]));
        assert_eq!(transcribe(&engine, &beep).await, [], "{milliseconds} ms");
    }
    assert_eq!(windows(&metrics), 0);
}

/// Five consecutive recordings, 69 s. If the previous text had no timestamps, the model would leave them out as well: one segment
/// would be 30 s long, and the text after it lost. Text and times are those of faster-whisper 1.2.1 (greedy,
/// `condition_on_previous_text`, fp32), for the recording that starts at 26 s.
#[tokio::test]
async fn windows_are_prompted_with_the_previous_text_and_its_timestamps() {
    let expected = [
        (26.28, "The old farmer found a golden key in the garden."),
        (
            29.60,
            "There was a feather in the kitchen, but the child took it.",
        ),
        (33.08, "Every day, the young hunter walked to the forest."),
        (36.32, "In the spring, the giant lived beyond the mountain."),
        (
            39.80,
            "We are going to the beach on Sunday with our friends.",
        ),
        (43.28, "We bought some bread and milk on the way home."),
        (
            46.20,
            "Many years later, the queen remembered the small village.",
        ),
    ];
    let engine = engine();
    let recordings = [
        "garden.flac",
        "story.mp3",
        "home.m4a",
        "journey.ogg",
        "numbers.wav",
    ];
    let segments = transcribe_files(&engine, &recordings, 0).await;
    let found: Vec<_> = segments
        .iter()
        .filter(|segment| (26.0..50.0).contains(&segment.start))
        .collect();
    let texts: Vec<_> = found.iter().map(|segment| segment.text.as_str()).collect();
    assert_eq!(texts, expected.map(|(_, text)| text));
    for (segment, (start, _)) in found.iter().zip(expected) {
        assert!((segment.start - start).abs() < 0.3, "{segment:?}");
    }
    let last = segments.last().unwrap();
    assert!(last.end > 65.0 && last.text.contains("342-107"), "{last:?}");
}

/// With the text of the previous minute as prompt, `tiny.en` transcribes "the the the" here.
#[tokio::test]
async fn after_a_long_silence_a_window_is_not_prompted_with_the_previous_text() {
    let engine = engine();
    let recordings = ["numbers.wav", "home.m4a", "garden.flac"];
    let segments = transcribe_files(&engine, &recordings, 40).await;
    let last: Vec<_> = segments
        .iter()
        .filter(|segment| segment.start > 85.0)
        .map(|segment| segment.text.as_str())
        .collect();
    assert_eq!(
        last.join(" "),
        "The wizard took a letter from the castle. The dragon guarded the treasure in the dark cave."
    );
}
