//! Computes log-mel frames from 16 kHz samples, as Whisper expects them before normalisation.
//!
//! A frame is `log10(max(mel, 1e-10))` of the power spectrum of [`WINDOW`] samples under a periodic Hann window, centred
//! on every [`HOP`]th sample; the signal is reflected at both ends, and there are `floor(samples / HOP)` frames. This is the
//! feature extraction of Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022),
//! section 2.2; the normalisation by the maximum of a window is left to the code that splits windows.

use std::f64::consts::PI;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use crate::Error;
use crate::mel_filters::MelFilters;

/// Samples per frame: 25 ms.
const WINDOW: usize = 400;
/// Samples between frames: 10 ms.
const HOP: usize = 160;
/// Samples of reflection before the first sample, so that the first frame is centred on it.
const PADDING: usize = WINDOW / 2;
/// Bins of the spectrum, 0 to 8000 Hz.
const BINS: usize = WINDOW / 2 + 1;
/// Minimum power: the floor of the logarithm.
const MIN_POWER: f32 = 1e-10;

/// Maximum frames per block: ten seconds.
pub const MAX_BLOCK_FRAMES: usize = 1000;

/// Computes log-mel frames of a stream of samples.
///
/// ```text
/// (push(samples)* -> next_block()* until none)* -> finish() -> next_block()* until none
/// ```
pub struct LogMel {
    n_mels: usize,
    filters: MelFilters,
    // Double precision up to the power: with single precision, a quiet bin next to a loud one is mostly rounding noise,
    // which the logarithm amplifies.
    hann: [f64; WINDOW],
    fft: Arc<dyn RealToComplex<f64>>,
    windowed: [f64; WINDOW],
    spectrum: [Complex<f64>; BINS],
    scratch: Vec<Complex<f64>>,
    power: [f32; BINS],
    /// The signal from the next frame's first sample, including the reflections once they are known.
    signal: Vec<f32>,
    /// Samples pushed so far.
    samples: u64,
    /// Frames computed so far.
    frames: u64,
    /// Whether the reflection before the first sample is in `signal`.
    started: bool,
    finished: bool,
}

impl LogMel {
    /// `n_mels`: bins per frame, 80 or 128.
    pub fn new(n_mels: u32) -> Result<Self, Error> {
        if n_mels != 80 && n_mels != 128 {
            return Err(Error::InvalidOption(format!(
                "n-mels is {n_mels}: use 80 or 128, the sizes of Whisper models"
            )));
        }
        let n_mels = n_mels as usize;
        let fft = RealFftPlanner::new().plan_fft_forward(WINDOW);
        Ok(Self {
            n_mels,
            filters: MelFilters::new(n_mels, BINS),
            hann: std::array::from_fn(|i| 0.5 - 0.5 * (2.0 * PI * i as f64 / WINDOW as f64).cos()),
            scratch: fft.make_scratch_vec(),
            fft,
            windowed: [0.0; WINDOW],
            spectrum: [Complex::default(); BINS],
            power: [0.0; BINS],
            signal: Vec::new(),
            samples: 0,
            frames: 0,
            started: false,
            finished: false,
        })
    }

    /// Samples pushed so far.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Appends samples.
    pub fn push(&mut self, samples: &[f32]) {
        self.signal.extend_from_slice(samples);
        self.samples += samples.len() as u64;
        if !self.started && self.signal.len() > PADDING {
            self.reflect_start();
        }
    }

    /// Signals the end of the samples.
    pub fn finish(&mut self) {
        if self.finished {
            return;
        }
        self.finished = true;
        // Shorter than one hop: no frames.
        if self.total_frames() == 0 {
            return;
        }
        // The last frame is centred at most `HOP` samples before the end, so it extends this far past it. The mirrored
        // samples are still in `signal`, which never starts later than `WINDOW` samples before the end.
        let overhang = PADDING - HOP;
        let len = self.signal.len();
        let mirrored: Vec<f32> = (1..=overhang).map(|i| self.signal[len - 1 - i]).collect();
        if !self.started {
            self.reflect_start();
        }
        self.signal.extend(mirrored);
    }

    /// The next frames: `[frames, n_mels]`, row-major, at most [`MAX_BLOCK_FRAMES`]. `None` if more samples are needed
    /// or, after `finish`, if there are no more frames.
    pub fn next_block(&mut self) -> Option<Vec<f32>> {
        let frames = self.frames_ready();
        if frames == 0 {
            return None;
        }
        let mut block = vec![0.0; frames * self.n_mels];
        for (i, mels) in block.chunks_exact_mut(self.n_mels).enumerate() {
            self.compute_frame(i * HOP, mels);
        }
        self.signal.drain(..frames * HOP);
        self.frames += frames as u64;
        Some(block)
    }

    /// Frames that can be computed from the available samples, at most [`MAX_BLOCK_FRAMES`].
    pub fn frames_ready(&self) -> usize {
        if !self.started || self.signal.len() < WINDOW {
            return 0;
        }
        let covered = (self.signal.len() - WINDOW) / HOP + 1;
        // The recording may end here, with one frame less than the samples would allow.
        let due = usize::try_from(self.total_frames() - self.frames).unwrap_or(usize::MAX);
        covered.min(due).min(MAX_BLOCK_FRAMES)
    }

    fn total_frames(&self) -> u64 {
        self.samples / HOP as u64
    }

    /// Prepends the reflection of the first samples, like numpy's `pad(mode="reflect")`: without
    /// repeating the first sample, and back and forth if the signal is shorter than the reflection.
    fn reflect_start(&mut self) {
        let last = self.signal.len() - 1;
        let mirrored = |i: usize| {
            let phase = i % (2 * last);
            self.signal[phase.min(2 * last - phase)]
        };
        let padding: Vec<f32> = (1..=PADDING).rev().map(mirrored).collect();
        self.signal.splice(..0, padding);
        self.started = true;
    }

    /// Computes the frame of the window that starts at `signal[start]`. Does not allocate.
    fn compute_frame(&mut self, start: usize, mels: &mut [f32]) {
        let window = &self.signal[start..start + WINDOW];
        for ((out, sample), weight) in self.windowed.iter_mut().zip(window).zip(&self.hann) {
            *out = f64::from(*sample) * weight;
        }
        self.fft
            .process_with_scratch(&mut self.windowed, &mut self.spectrum, &mut self.scratch)
            .expect("all three buffers have the lengths of the plan");
        for (power, bin) in self.power.iter_mut().zip(&self.spectrum) {
            *power = bin.norm_sqr() as f32;
        }
        self.filters.apply(&self.power, mels);
        for mel in mels {
            *mel = mel.max(MIN_POWER).log10();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(samples: &[f32], chunk: usize) -> Vec<f32> {
        let mut log_mel = LogMel::new(80).unwrap();
        let mut all = Vec::new();
        for chunk in samples.chunks(chunk) {
            log_mel.push(chunk);
            while let Some(block) = log_mel.next_block() {
                assert!(block.len() <= MAX_BLOCK_FRAMES * 80);
                all.extend(block);
            }
        }
        log_mel.finish();
        while let Some(block) = log_mel.next_block() {
            all.extend(block);
        }
        all
    }

    fn noise(len: usize) -> Vec<f32> {
        let mut state = 1u32;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .take(len)
        .collect()
    }

    #[test]
    fn there_is_a_frame_for_every_whole_hop() {
        for len in [
            0, 1, 159, 160, 161, 199, 200, 201, 319, 320, 400, 16_000, 16_159,
        ] {
            assert_eq!(
                frames(&noise(len), 97).len(),
                len / 160 * 80,
                "{len} samples"
            );
        }
    }

    #[test]
    fn the_size_of_the_pushes_does_not_matter() {
        let samples = noise(40_000);
        let whole = frames(&samples, samples.len());
        for chunk in [1, 159, 160, 161, 201, 4096] {
            assert!(frames(&samples, chunk) == whole, "pushes of {chunk}");
        }
    }

    #[test]
    fn a_block_has_at_most_a_thousand_frames() {
        let mut log_mel = LogMel::new(128).unwrap();
        log_mel.push(&noise(25 * 16_000));
        let sizes: Vec<usize> = std::iter::from_fn(|| log_mel.next_block())
            .map(|block| block.len() / 128)
            .collect();
        assert_eq!(sizes[..2], [1000, 1000]);
    }

    #[test]
    fn silence_is_the_floor() {
        assert!(frames(&[0.0; 1600], 1600).iter().all(|&mel| mel == -10.0));
    }

    #[test]
    fn only_whispers_sizes_are_allowed() {
        assert!(matches!(LogMel::new(64), Err(Error::InvalidOption(_))));
    }
}
