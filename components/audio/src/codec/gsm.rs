//! GSM 06.10 full rate (ETSI EN 300 961): 160 samples at 8 kHz in 260 bits. As the recommendation requires, the arithmetic is
//! 16-bit and saturating. Names in capitals are the recommendation's tables.

use symphonia::core::codecs::audio::AudioCodecId;
use symphonia::core::codecs::registry::SupportedAudioCodec;
use symphonia::core::common::FourCc;

use super::decoder::{Codec, saturate, supported};

/// GSM 06.10 as packed in WAV: two frames in 65 bytes.
pub(crate) const CODEC_ID_GSM_MS: AudioCodecId = AudioCodecId::new(FourCc::new(*b"gsm "));

/// Samples per frame, and per sub-frame.
const FRAME: usize = 160;
const PART: usize = 40;

/// The greatest lag of the long-term predictor, in samples.
const LONGEST_LAG: usize = 120;

/// Bits of the eight log-area ratios, and the tables B, MIC and INVA to decode them.
const LAR_BITS: [u32; 8] = [6, 6, 5, 5, 4, 4, 3, 3];
const LAR_OFFSETS: [i16; 8] = [0, 0, 2048, -2560, 94, -1792, -341, -1144];
const LAR_LEAST: [i16; 8] = [-32, -32, -16, -16, -8, -8, -4, -4];
const LAR_SCALES: [i16; 8] = [
    13_107, 13_107, 13_107, 13_107, 19_223, 17_476, 31_454, 29_708,
];

/// Gains of the long-term predictor (QLB).
const LONG_TERM_GAINS: [i16; 4] = [3_277, 11_469, 21_299, 32_767];

/// Normalised mantissas of the block maximum (FAC).
const MANTISSAS: [i16; 8] = [
    18_431, 20_479, 22_527, 24_575, 26_623, 28_671, 30_719, 32_767,
];

/// Coefficient of the de-emphasis filter.
const EMPHASIS: i16 = 28_180;

/// Product of two fractions, rounded.
fn times(a: i16, b: i16) -> i16 {
    saturate((i32::from(a) * i32::from(b) + 0x4000) >> 15)
}

/// The decoder's state between frames.
struct Gsm {
    /// The last samples of the residual, the newest last.
    residual: [i16; LONGEST_LAG],
    lag: usize,
    /// Log-area ratios of the previous frame.
    ratios: [i16; 8],
    /// State of the short-term synthesis filter.
    memory: [i16; 9],
    /// The last sample before scaling.
    last: i16,
}

impl Default for Gsm {
    fn default() -> Self {
        Self {
            residual: [0; LONGEST_LAG],
            lag: PART,
            ratios: [0; 8],
            memory: [0; 9],
            last: 0,
        }
    }
}

impl Gsm {
    fn decode(&mut self, bits: &mut Bits, samples: &mut Vec<i16>) {
        let ratios = std::array::from_fn(|i| {
            // Decoding of the log-area ratios.
            let code = bits.take(LAR_BITS[i]) as i16;
            let shifted = (code + LAR_LEAST[i]) << 10;
            let scaled = times(LAR_SCALES[i], shifted.saturating_sub(LAR_OFFSETS[i] << 1));
            scaled.saturating_add(scaled)
        });
        let mut residual = [0; FRAME];
        for part in residual.chunks_exact_mut(PART) {
            self.long_term(bits, part);
        }
        self.short_term(&ratios, &residual, samples);
        self.ratios = ratios;
    }

    /// The residual of a sub-frame: a pulse at every third sample (APCM inverse quantisation, RPE grid positioning), added to the
    /// residual one lag earlier (long-term synthesis).
    fn long_term(&mut self, bits: &mut Bits, part: &mut [i16]) {
        let lag = bits.take(7) as usize;
        let gain = LONG_TERM_GAINS[bits.take(2) as usize];
        let grid = bits.take(2) as usize;
        let maximum = bits.take(6) as i16;
        // The block maximum as exponent and mantissa.
        let mut exponent = if maximum > 15 { (maximum >> 3) - 1 } else { 0 };
        let mut mantissa = maximum - (exponent << 3);
        if mantissa == 0 {
            (exponent, mantissa) = (-4, 7);
        } else {
            while mantissa <= 7 {
                mantissa = mantissa << 1 | 1;
                exponent -= 1;
            }
            mantissa -= 8;
        }
        let scale = MANTISSAS[mantissa as usize];
        let shift = 6 - exponent;
        // The loudest blocks are not shifted, so no rounding is needed.
        let half = if shift > 0 { 1 << (shift - 1) } else { 0 };
        let mut pulses = [0; PART];
        for pulse in pulses.iter_mut().skip(grid).step_by(3).take(13) {
            let code = ((bits.take(3) as i16) << 1) - 7;
            *pulse = times(scale, code << 12).saturating_add(half) >> shift;
        }
        if (PART..=LONGEST_LAG).contains(&lag) {
            self.lag = lag;
        }
        for (at, (out, pulse)) in part.iter_mut().zip(pulses).enumerate() {
            // The lag is at least a sub-frame, so this refers to earlier ones.
            let before = self.residual[LONGEST_LAG - self.lag + at];
            *out = pulse.saturating_add(times(gain, before));
        }
        self.residual.copy_within(PART.., 0);
        self.residual[LONGEST_LAG - PART..].copy_from_slice(part);
    }

    /// Short-term synthesis, de-emphasis, upscaling. Over the first 40 samples the coefficients change from those of the previous
    /// frame to those of this one in three steps.
    fn short_term(&mut self, ratios: &[i16; 8], residual: &[i16; FRAME], samples: &mut Vec<i16>) {
        let quarters = |a: i16, b: i16| (a >> 2).saturating_add(b >> 2);
        for (steps, mix) in [(0..13, 0), (13..27, 1), (27..40, 2), (40..FRAME, 3)] {
            let reflections: [i16; 8] = std::array::from_fn(|i| {
                let (before, now) = (self.ratios[i], ratios[i]);
                reflection(match mix {
                    0 => quarters(before, now).saturating_add(before >> 1),
                    1 => (before >> 1).saturating_add(now >> 1),
                    2 => quarters(before, now).saturating_add(now >> 1),
                    _ => now,
                })
            });
            for &input in &residual[steps] {
                let mut sample = input;
                for i in (0..8).rev() {
                    sample = sample.saturating_sub(times(reflections[i], self.memory[i]));
                    self.memory[i + 1] =
                        self.memory[i].saturating_add(times(reflections[i], sample));
                }
                self.memory[0] = sample;
                self.last = sample.saturating_add(times(self.last, EMPHASIS));
                // Upscaling, and truncation to 13 bits.
                samples.push(self.last.saturating_add(self.last) & !7);
            }
        }
    }
}

/// Reflection coefficient of a log-area ratio, by the recommendation's piecewise linear approximation.
fn reflection(ratio: i16) -> i16 {
    let magnitude = ratio.saturating_abs();
    let coefficient = if magnitude < 11_059 {
        magnitude << 1
    } else if magnitude < 20_070 {
        magnitude + 11_059
    } else {
        (magnitude >> 2).saturating_add(26_112)
    };
    if ratio < 0 { -coefficient } else { coefficient }
}

/// Reads bits, least significant first, as packed in WAV; past the end they are 0.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> u32 {
        (0..count).fold(0, |bits, place| {
            let byte = self.bytes.get(self.at / 8).copied().unwrap_or(0);
            let bit = u32::from(byte >> (self.at % 8) & 1);
            self.at += 1;
            bits | bit << place
        })
    }
}

/// GSM 06.10 in blocks of two frames in 65 bytes.
pub(super) struct MsGsm(Gsm);

impl Codec for MsGsm {
    const SUPPORTED: &'static [SupportedAudioCodec] =
        &[supported(CODEC_ID_GSM_MS, "gsm_ms", "GSM 06.10")];

    fn new(_: usize) -> Self {
        Self(Gsm::default())
    }

    fn decode(&mut self, blocks: &[u8], samples: &mut Vec<i16>) {
        for block in blocks.chunks_exact(65) {
            let mut bits = Bits {
                bytes: block,
                at: 0,
            };
            self.0.decode(&mut bits, samples);
            self.0.decode(&mut bits, samples);
        }
    }
}
