//! Mixes the channels of a recording to mono: their mean or, if they cancel each other out, the loudest one.
//!
//! A microphone with inverted polarity, or a recorder that writes a balanced line as stereo, produces two channels that are each
//! other's negative. Their mean is silence, or the small difference.

/// Samples are clamped to this magnitude. Full scale is 1.0; a float file can contain any value, and the power of the
/// largest floats is infinite.
const MAX_SAMPLE: f32 = 1e6;

/// Channels cancel out if the power of their mean is below this fraction (-10 dB) of that of the mean of uncorrelated
/// channels. One channel among silent ones has a fraction of 1.
const CANCEL_THRESHOLD: f64 = 0.1;

/// They stop cancelling out above this fraction (-5 dB).
const ADD_THRESHOLD: f64 = 0.3;

/// Time constant of the power measurement, in seconds. When channels of equal loudness start to cancel out, detection takes a
/// third of a second.
const TIME_CONSTANT: f64 = 0.1;

/// Duration of the cross-fade between mixes, in seconds.
const FADE: f64 = 0.02;

/// Mixes blocks of interleaved samples to mono.
///
/// The mix is selected by the power of the last tenth of a second, including the current block, and changes are cross-faded to
/// avoid clicks.
#[derive(Default)]
pub(crate) struct Mixer {
    rate: u32,
    /// Power of each channel and, last, of their mean, as decaying sums of squares. Empty before the first block.
    power: Vec<f64>,
    /// The channel used while they cancel each other out.
    selected: Option<usize>,
    /// Weight of each channel in the mix.
    weights: Vec<f32>,
}

impl Mixer {
    /// Mixes a block into `mono`. NaN samples become silence, and the largest are clamped.
    pub fn mix(
        &mut self,
        interleaved: &mut [f32],
        channels: usize,
        rate: u32,
        mono: &mut Vec<f32>,
    ) {
        for sample in interleaved.iter_mut() {
            *sample = if sample.is_nan() {
                0.0
            } else {
                sample.clamp(-MAX_SAMPLE, MAX_SAMPLE)
            };
        }
        mono.clear();
        if channels <= 1 {
            mono.extend_from_slice(interleaved);
            return;
        }
        let is_first = self.power.len() != channels + 1 || self.rate != rate;
        if is_first {
            *self = Self {
                rate,
                power: vec![0.0; channels + 1],
                selected: None,
                weights: Vec::new(),
            };
        }
        self.measure(interleaved, channels);
        self.choose();
        let target = self.target(channels);
        if is_first {
            self.weights.clone_from(&target);
        }
        let step = 1.0 / (FADE * f64::from(rate)) as f32;
        for frame in interleaved.chunks_exact(channels) {
            if self.weights != target {
                for (weight, target) in self.weights.iter_mut().zip(&target) {
                    *weight += (target - *weight).clamp(-step, step);
                }
            }
            mono.push(frame.iter().zip(&self.weights).map(|(x, w)| x * w).sum());
        }
    }

    fn measure(&mut self, interleaved: &[f32], channels: usize) {
        let frames = (interleaved.len() / channels) as f64;
        let kept = (-frames / (TIME_CONSTANT * f64::from(self.rate))).exp();
        for power in &mut self.power {
            *power *= kept;
        }
        for frame in interleaved.chunks_exact(channels) {
            let mut sum = 0.0;
            for (sample, power) in frame.iter().zip(&mut self.power) {
                let sample = f64::from(*sample);
                sum += sample;
                *power += sample * sample;
            }
            self.power[channels] += (sum / channels as f64).powi(2);
        }
    }

    /// Selects the loudest channel when the channels start to cancel out, and deselects it when they stop.
    fn choose(&mut self) {
        let Some((mixed, channels)) = self.power.split_last() else {
            return;
        };
        let count = channels.len() as f64;
        let uncorrelated = channels.iter().sum::<f64>() / (count * count);
        let fraction = mixed / uncorrelated; // NaN in silence, which changes nothing
        if fraction > ADD_THRESHOLD {
            self.selected = None;
        } else if fraction < CANCEL_THRESHOLD && self.selected.is_none() {
            self.selected = (0..channels.len())
                .rev()
                .max_by(|&a, &b| channels[a].total_cmp(&channels[b]));
        }
    }

    fn target(&self, channels: usize) -> Vec<f32> {
        match self.selected {
            None => vec![1.0 / channels as f32; channels],
            Some(selected) => (0..channels)
                .map(|channel| if channel == selected { 1.0 } else { 0.0 })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;

    const RATE: u32 = 16_000;

    fn mixed(interleaved: &[f32], channels: usize, block: usize) -> Vec<f32> {
        let (mut mixer, mut out, mut mono) = (Mixer::default(), Vec::new(), Vec::new());
        for block in interleaved.chunks(block * channels) {
            mixer.mix(&mut block.to_vec(), channels, RATE, &mut mono);
            out.extend_from_slice(&mono);
        }
        out
    }

    fn tone(count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| 0.5 * (TAU * 440.0 * i as f32 / RATE as f32).sin())
            .collect()
    }

    /// Two channels of which the second is the first times `factor`.
    fn stereo(samples: &[f32], factor: f32) -> Vec<f32> {
        samples.iter().flat_map(|&x| [x, factor * x]).collect()
    }

    fn largest_step(samples: &[f32]) -> f32 {
        samples
            .windows(2)
            .map(|two| (two[1] - two[0]).abs())
            .fold(0.0, f32::max)
    }

    #[test]
    fn mixing_takes_the_mean_of_the_channels() {
        assert_eq!(mixed(&[0.25, -0.5], 1, 9), [0.25, -0.5]);
        assert_eq!(mixed(&[0.25, 0.75, -1.0, 0.0], 2, 9), [0.5, -0.5]);
        let four = [1.0, 0.0, 0.5, 0.5, 1.0, 1.0, 0.0, 0.0];
        assert_eq!(mixed(&four, 4, 9), [0.5, 0.5]);
    }

    #[test]
    fn channels_that_cancel_out_give_the_louder_one() {
        let tone = tone(8_000);
        assert_eq!(mixed(&stereo(&tone, -1.0), 2, 1000), tone);
        let louder: Vec<f32> = tone.iter().map(|x| -1.2 * x).collect();
        assert_eq!(mixed(&stereo(&tone, -1.2), 2, 1000), louder);
    }

    #[test]
    fn with_one_silent_channel_the_mean_is_used() {
        let tone = tone(8_000);
        let half: Vec<f32> = tone.iter().map(|x| 0.5 * x).collect();
        assert_eq!(mixed(&stereo(&tone, 0.0), 2, 1000), half);
    }

    #[test]
    fn the_mix_changes_without_a_click_when_cancelling_starts_and_stops() {
        let tone = tone(48_000);
        let mut both = stereo(&tone[..16_000], 1.0);
        both.extend(stereo(&tone[16_000..32_000], -1.0));
        both.extend(stereo(&tone[32_000..], 1.0));
        let mono = mixed(&both, 2, 500);
        assert_eq!(mono[..16_000], tone[..16_000]);
        // Either of the two may be selected.
        for part in [24_000..32_000, 40_000..48_000] {
            let mut samples = mono[part.clone()].iter().zip(&tone[part]);
            assert!(samples.all(|(mixed, tone)| (mixed.abs() - tone.abs()).abs() < 1e-6));
        }
        assert!(largest_step(&mono) < 1.1 * largest_step(&tone));
    }

    #[test]
    fn silence_does_not_change_the_mix() {
        let tone = tone(8_000);
        let mut both = stereo(&tone, -1.0);
        both.extend(vec![0.0; 160_000]);
        both.extend(stereo(&tone, -1.0));
        assert_eq!(mixed(&both, 2, 1000)[88_000..], tone);
    }

    #[test]
    fn nan_samples_become_silence_and_huge_ones_are_clamped() {
        let clamped = mixed(&[f32::NAN, f32::INFINITY, f32::MIN], 1, 9);
        assert_eq!(clamped, [0.0, MAX_SAMPLE, -MAX_SAMPLE]);
    }
}
