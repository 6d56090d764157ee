//! Compares log-mel frames with the reference written by golden.py.

use audio::LogMel;

fn data(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn speech() -> Vec<f32> {
    let sample = |pair: &[u8]| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32768.0;
    data("speech.s16").chunks_exact(2).map(sample).collect()
}

fn assert_golden(samples: &[f32], n_mels: u32, name: &str) {
    let expected: Vec<f32> = data(name)
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let mut log_mel = LogMel::new(n_mels).unwrap();
    let mut frames = Vec::new();
    for chunk in samples.chunks(1234) {
        log_mel.push(chunk);
        frames.extend(std::iter::from_fn(|| log_mel.next_block()).flatten());
    }
    log_mel.finish();
    frames.extend(std::iter::from_fn(|| log_mel.next_block()).flatten());
    assert_eq!(frames.len(), expected.len());
    let worst = frames
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    println!("{name}: largest difference {worst:e}");
    assert!(worst < 1e-5, "{name} differs by {worst}");
}

#[test]
fn eighty_bins_match_the_reference() {
    assert_golden(&speech(), 80, "log_mel_80.f32");
}

#[test]
fn a_hundred_and_twenty_eight_bins_match_the_reference() {
    assert_golden(&speech(), 128, "log_mel_128.f32");
}

#[test]
fn a_clip_shorter_than_the_reflection_matches_the_reference() {
    assert_golden(&speech()[8000..8190], 80, "log_mel_short_80.f32");
}
