//! Resamples any sample rate to 16 kHz, block by block, without shifting the signal in time.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};

use crate::Error;

/// Sample rate after the resampler, in Hz.
pub const SAMPLE_RATE: u32 = 16_000;

/// Minimum samples per block. The anti-aliasing filter is as long as a block: the longer, the
/// steeper. With 1024 samples at 44.1 kHz the transition band is 7.6 to 8 kHz.
const MIN_BLOCK: usize = 1024;

/// Resamples a stream of mono samples of one rate to 16 kHz: `n` samples become `round(n · 16000 / rate)`, without a time
/// shift. At 16 kHz the samples pass through unchanged.
pub struct Resampler {
    rate: u32,
    /// `None` at 16 kHz.
    filter: Option<Filter>,
    /// Input samples so far.
    consumed: u64,
    /// Output samples so far.
    produced: u64,
}

struct Filter {
    fft: Fft<f32>,
    /// The next block to filter, up to `filled`.
    input: Vec<f32>,
    filled: usize,
    output: Vec<f32>,
    /// Output samples still to discard before the first one of the signal.
    delay: usize,
}

impl Resampler {
    /// A resampler for input at `rate` Hz.
    pub fn new(rate: u32) -> Result<Self, Error> {
        let filter = if rate == SAMPLE_RATE {
            None
        } else {
            Some(Filter::new(rate)?)
        };
        Ok(Self {
            rate,
            filter,
            consumed: 0,
            produced: 0,
        })
    }

    /// Input sample rate in Hz.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Resamples more samples and appends the available output to `out`.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<(), Error> {
        self.consumed += samples.len() as u64;
        let before = out.len();
        match &mut self.filter {
            None => out.extend_from_slice(samples),
            Some(filter) => filter.push(samples, out)?,
        }
        self.produced += (out.len() - before) as u64;
        Ok(())
    }

    /// Signals the end of the input and appends the remaining output to `out`.
    pub fn finish(&mut self, out: &mut Vec<f32>) -> Result<(), Error> {
        let Some(filter) = &mut self.filter else {
            return Ok(());
        };
        let (rate, target) = (u64::from(self.rate), u64::from(SAMPLE_RATE));
        let due = (self.consumed * target + rate / 2) / rate;
        while self.produced < due {
            let before = out.len();
            filter.flush(out)?;
            // Padding zeros are not part of the signal.
            let missing = usize::try_from(due - self.produced).unwrap_or(usize::MAX);
            out.truncate(before.saturating_add(missing));
            self.produced += (out.len() - before) as u64;
        }
        Ok(())
    }
}

impl Filter {
    fn new(rate: u32) -> Result<Self, Error> {
        // The smallest block with a whole number of samples on both sides, doubled until it is long enough, so
        // that the FFT's length has small factors. Doubled at least once, so that the delay is a whole number of samples.
        let smallest = (rate / gcd(rate, SAMPLE_RATE)) as usize;
        let mut block = 2 * smallest;
        while block < MIN_BLOCK {
            block *= 2;
        }
        let fft = Fft::new_custom(
            rate as usize,
            SAMPLE_RATE as usize,
            block,
            1,
            1,
            rubato::WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        )
        .map_err(|error| {
            Error::Corrupt(format!(
                "audio of {rate} Hz cannot be resampled ({error}): convert it first"
            ))
        })?;
        Ok(Self {
            input: vec![0.0; fft.input_frames_next()],
            filled: 0,
            output: vec![0.0; fft.output_frames_next()],
            delay: fft.output_delay(),
            fft,
        })
    }

    fn push(&mut self, mut samples: &[f32], out: &mut Vec<f32>) -> Result<(), Error> {
        while !samples.is_empty() {
            let count = samples.len().min(self.input.len() - self.filled);
            self.input[self.filled..self.filled + count].copy_from_slice(&samples[..count]);
            self.filled += count;
            samples = &samples[count..];
            if self.filled == self.input.len() {
                self.process(out)?;
            }
        }
        Ok(())
    }

    /// Pads the block with silence and filters it.
    fn flush(&mut self, out: &mut Vec<f32>) -> Result<(), Error> {
        self.input[self.filled..].fill(0.0);
        self.process(out)
    }

    fn process(&mut self, out: &mut Vec<f32>) -> Result<(), Error> {
        self.filled = 0;
        let (frames_in, frames_out) = (self.input.len(), self.output.len());
        let failed =
            |error: &dyn std::fmt::Display| Error::Corrupt(format!("resampling failed: {error}"));
        let input =
            InterleavedSlice::new(&self.input, 1, frames_in).map_err(|error| failed(&error))?;
        let mut output = InterleavedSlice::new_mut(&mut self.output, 1, frames_out)
            .map_err(|error| failed(&error))?;
        self.fft
            .process_into_buffer(&input, &mut output, None)
            .map_err(|error| failed(&error))?;
        let late = self.delay.min(frames_out);
        self.delay -= late;
        out.extend_from_slice(&self.output[late..]);
        Ok(())
    }
}

/// Greatest common divisor, by Euclid.
fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    fn resample(samples: &[f32], rate: u32, chunk: usize) -> Vec<f32> {
        let mut resampler = Resampler::new(rate).unwrap();
        let mut out = Vec::new();
        for chunk in samples.chunks(chunk) {
            resampler.push(chunk, &mut out).unwrap();
        }
        resampler.finish(&mut out).unwrap();
        out
    }

    fn sine(frequency: f64, rate: u32, seconds: f64) -> Vec<f32> {
        let count = (seconds * f64::from(rate)).round() as usize;
        (0..count)
            .map(|i| (TAU * frequency * i as f64 / f64::from(rate)).sin() as f32)
            .collect()
    }

    #[test]
    fn a_sine_keeps_its_frequency_amplitude_and_phase() {
        for rate in [
            8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 44_101, 48_000, 96_000, 192_000,
            384_000,
        ] {
            for frequency in [100.0, 440.0, 3_000.0] {
                let resampled = resample(&sine(frequency, rate, 2.0), rate, 1000);
                let expected = sine(frequency, SAMPLE_RATE, 2.0);
                assert_eq!(resampled.len(), expected.len(), "{rate} Hz");
                // Away from the ends, where the sine starts and stops abruptly.
                let worst = (4_000..28_000)
                    .map(|i| (resampled[i] - expected[i]).abs())
                    .fold(0.0, f32::max);
                assert!(
                    worst < 1e-3,
                    "{frequency} Hz from {rate} Hz is off by {worst}"
                );
            }
        }
    }

    #[test]
    fn frequencies_above_8_khz_are_filtered_out() {
        let resampled = resample(&sine(9_000.0, 48_000, 1.0), 48_000, 1000);
        let worst = resampled[2_000..14_000]
            .iter()
            .fold(0.0f32, |worst, sample| worst.max(sample.abs()));
        assert!(worst < 1e-3, "{worst}");
    }

    #[test]
    fn the_number_of_samples_is_rounded_to_the_nearest() {
        for (rate, consumed, produced) in [
            (48_000, 4, 1),
            (48_000, 5, 2),
            (44_100, 1, 0),
            (8_000, 1, 2),
            (16_000, 7, 7),
            (48_000, 0, 0),
        ] {
            assert_eq!(
                resample(&vec![0.1; consumed], rate, 100).len(),
                produced,
                "{consumed} at {rate} Hz"
            );
        }
    }

    #[test]
    fn the_size_of_the_pushes_does_not_matter() {
        let samples = sine(1_000.0, 44_100, 0.5);
        assert!(resample(&samples, 44_100, 7) == resample(&samples, 44_100, samples.len()));
    }
}
