//! What is no speech, with real Whisper weights: `tiny.en`, which `make test` puts into `.tools/models/`.

use std::f32::consts::TAU;
use std::path::Path;

use audio::LogMel;
use inference::{Config, Device, Engine, Options, Segment};

const RATE: f32 = 16_000.0;

fn engine() -> Engine {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools");
    let model = tools.join("models/tiny.en");
    assert!(
        model.join("config.json").is_file(),
        "these tests need a Whisper model: `{}` is missing; run `make test-model`",
        model.display()
    );
    let library = std::env::var_os("ORT_DYLIB_PATH")
        .map_or_else(|| tools.join("onnxruntime/libonnxruntime.so"), Into::into);
    Engine::load(Config {
        device: Device::Cpu,
        threads: 2,
        ..Config::new(model, library)
    })
    .expect("tiny.en loads")
}

/// The segments of samples at 16 kHz.
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
    transcription.finish().unwrap();
    let mut segments = Vec::new();
    while let Some(segment) = transcription.next().await.unwrap() {
        segments.push(segment);
    }
    segments
}

/// So many seconds of a signal, as a function of time.
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

/// Equally distributed between -1 and 1.
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
            "noise that falls towards high frequencies",
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
            "a telephone that rings",
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
async fn ten_minutes_of_one_random_bit_are_silence() {
    let engine = engine();
    let mut noise = white();
    let dither = signal(600.0, |_| if noise() > 0.0 { 1.0 / 32_768.0 } else { 0.0 });
    assert_eq!(transcribe(&engine, &dither).await, []);
    assert_eq!(engine.metrics().windows, 0);
}

#[tokio::test]
async fn a_click_or_a_beep_of_less_than_a_tenth_of_a_second_is_no_word() {
    let engine = engine();
    for milliseconds in [10.0, 20.0, 30.0, 40.0, 50.0] {
        let beep = signal(milliseconds / 1000.0, |t| tones(t, &[440.0]));
        assert_eq!(transcribe(&engine, &beep).await, [], "{milliseconds} ms");
    }
    assert_eq!(engine.metrics().windows, 0);
}
