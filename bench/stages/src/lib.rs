//! The component `audio` up to the resampler: decoding without the log-mel spectrum, so that each can be measured.

use audio::{Bytes, Decoder, Error, Hint, Resampler};

mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({ world: "stages", path: "stages.wit" });
}

struct Stages;

bindings::export!(Stages with_types_in bindings);

impl bindings::Guest for Stages {
    fn decode(bytes: Vec<u8>) -> Result<u64, String> {
        let mut whole = Bytes::new();
        whole.append(bytes);
        decode(whole).map_err(|error| error.to_string())
    }
}

/// The loop of [`audio::Frames`], discarding the samples.
fn decode(bytes: Bytes) -> Result<u64, Error> {
    let mut decoder = Decoder::open(bytes, &Hint::default())?;
    let mut resampler: Option<Resampler> = None;
    let mut resampled = Vec::new();
    let mut samples = 0;
    while let Some(block) = decoder.next_block()? {
        if resampler
            .as_ref()
            .is_none_or(|resampler| resampler.rate() != block.sample_rate)
        {
            if let Some(mut before) = resampler.take() {
                before.finish(&mut resampled)?;
            }
            resampler = Some(Resampler::new(block.sample_rate)?);
        }
        if let Some(resampler) = &mut resampler {
            resampler.push(block.samples, &mut resampled)?;
        }
        samples += std::hint::black_box(&resampled).len() as u64;
        resampled.clear();
    }
    if let Some(mut resampler) = resampler {
        resampler.finish(&mut resampled)?;
        samples += resampled.len() as u64;
    }
    Ok(samples)
}
