//! The triangular mel filters of Whisper: Slaney's mel scale and area normalisation, 0 to 8000 Hz.
//!
//! The scale is that of Slaney's Auditory Toolbox (Interval Research Technical Report 1998-010), the default of librosa's
//! `filters.mel`: linear below 1000 Hz, logarithmic above.

use crate::SAMPLE_RATE;

/// Highest frequency of the filters, in Hz.
const MAX_FREQUENCY: f64 = SAMPLE_RATE as f64 / 2.0;
/// Where the scale changes from linear to logarithmic, in Hz and in mel.
const BREAK_FREQUENCY: f64 = 1000.0;
const BREAK_MEL: f64 = 15.0;
/// Hz per mel below the break.
const LINEAR_STEP: f64 = BREAK_FREQUENCY / BREAK_MEL;
/// Above the break, 27 mel correspond to a factor of 6.4.
const LOG_MELS: f64 = 27.0;
const LOG_FACTOR: f64 = 6.4;

fn mel_from_hz(hz: f64) -> f64 {
    if hz < BREAK_FREQUENCY {
        hz / LINEAR_STEP
    } else {
        BREAK_MEL + LOG_MELS * (hz / BREAK_FREQUENCY).ln() / LOG_FACTOR.ln()
    }
}

fn hz_from_mel(mel: f64) -> f64 {
    if mel < BREAK_MEL {
        mel * LINEAR_STEP
    } else {
        BREAK_FREQUENCY * LOG_FACTOR.powf((mel - BREAK_MEL) / LOG_MELS)
    }
}

/// A filter bank. A triangle covers few bins of the spectrum, so only these are stored.
pub(crate) struct MelFilters {
    spans: Vec<Span>,
    weights: Vec<f32>,
}

/// The non-zero bins of one filter.
struct Span {
    first_bin: usize,
    weights: std::ops::Range<usize>,
}

impl MelFilters {
    /// `n_mels` filters for a power spectrum of `n_bins`, evenly spaced from 0 to 8000 Hz.
    pub(crate) fn new(n_mels: usize, n_bins: usize) -> Self {
        let top = mel_from_hz(MAX_FREQUENCY);
        let edge = |i: usize| hz_from_mel(top * i as f64 / (n_mels + 1) as f64);
        let bin_hz = |bin: usize| MAX_FREQUENCY * bin as f64 / (n_bins - 1) as f64;
        let mut spans = Vec::with_capacity(n_mels);
        let mut all = Vec::new();
        for mel in 0..n_mels {
            let (left, centre, right) = (edge(mel), edge(mel + 1), edge(mel + 2));
            // Each triangle has an area of 1 Hz.
            let height = 2.0 / (right - left);
            let weight = |hz: f64| {
                height * ((hz - left) / (centre - left)).min((right - hz) / (right - centre))
            };
            let mut bins = (0..n_bins).filter(|&bin| weight(bin_hz(bin)) > 0.0);
            let start = all.len();
            // A filter narrower than the bin spacing can miss all bins.
            let first_bin = bins.next().unwrap_or(0);
            all.extend(
                (first_bin..n_bins)
                    .map(|bin| weight(bin_hz(bin)) as f32)
                    .take_while(|&weight| weight > 0.0),
            );
            spans.push(Span {
                first_bin,
                weights: start..all.len(),
            });
        }
        Self {
            spans,
            weights: all,
        }
    }

    /// The power in each filter: `[n_bins]` to `[n_mels]`.
    pub(crate) fn apply(&self, power: &[f32], mels: &mut [f32]) {
        for (span, mel) in self.spans.iter().zip(mels) {
            let weights = &self.weights[span.weights.clone()];
            *mel = power[span.first_bin..]
                .iter()
                .zip(weights)
                .map(|(power, weight)| power * weight)
                .sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_slaneys() {
        for (hz, mel) in [(500.0, 7.5), (1000.0, 15.0), (6400.0, 42.0)] {
            assert!((mel_from_hz(hz) - mel).abs() < 1e-12);
        }
        for hz in [0.0, 333.0, 1000.0, 4321.0, 8000.0] {
            assert!((hz_from_mel(mel_from_hz(hz)) - hz).abs() < 1e-9);
        }
    }

    #[test]
    fn every_filter_of_both_sizes_covers_some_bins() {
        for n_mels in [80, 128] {
            let filters = MelFilters::new(n_mels, 201);
            assert_eq!(filters.spans.len(), n_mels);
            assert!(filters.spans.iter().all(|span| !span.weights.is_empty()));
        }
    }
}
