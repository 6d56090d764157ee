//! The clip that the test files are generated from, and helpers for tests that compare with it.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use audio::{Bytes, Decoder, Error, Hint, Resampler};

/// Samples of the clip: 1.2 s at 16 kHz.
pub const CLIP: usize = 19_200;

pub fn data(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn clip() -> Vec<f32> {
    let sample = |pair: &[u8]| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32768.0;
    data("clip.s16").chunks_exact(2).map(sample).collect()
}

pub fn bytes(content: &[u8]) -> Bytes {
    let mut bytes = Bytes::new();
    for chunk in content.chunks(1000) {
        bytes.append(chunk.to_vec());
    }
    bytes
}

/// The samples of a file at 16 kHz. The rate may change if files were joined; every packet must decode.
pub fn samples_of(content: &[u8]) -> Result<Vec<f32>, Error> {
    let mut decoder = Decoder::open(bytes(content), &Hint::default())?;
    let mut out = Vec::new();
    let mut resampler: Option<Resampler> = None;
    while let Some(block) = decoder.next_block()? {
        if resampler
            .as_ref()
            .is_none_or(|resampler| resampler.rate() != block.sample_rate)
        {
            if let Some(mut before) = resampler.take() {
                before.finish(&mut out)?;
            }
            resampler = Some(Resampler::new(block.sample_rate)?);
        }
        if let Some(resampler) = &mut resampler {
            resampler.push(block.samples, &mut out)?;
        }
    }
    if let Some(mut resampler) = resampler {
        resampler.finish(&mut out)?;
    }
    assert_eq!(decoder.skipped_packets(), 0);
    Ok(out)
}

/// Normalised correlation of `samples`, shifted earlier by `lag`, with the clip.
pub fn correlation(samples: &[f32], clip: &[f32], lag: usize) -> f64 {
    let pairs = || {
        samples[lag..]
            .iter()
            .zip(clip)
            .map(|(&a, &b)| (f64::from(a), f64::from(b)))
    };
    let (ab, aa, bb) = pairs().fold((0.0, 0.0, 0.0), |(ab, aa, bb), (a, b)| {
        (ab + a * b, aa + a * a, bb + b * b)
    });
    ab / (aa * bb).sqrt()
}
