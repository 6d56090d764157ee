//! G.722 at 64 kbit/s (ITU-T G.722, 1988): 16 kHz in two sub-bands of ADPCM; a byte is two samples. Names in capitals are the
//! recommendation's blocks.

use symphonia::core::codecs::audio::well_known::CODEC_ID_ADPCM_G722;
use symphonia::core::codecs::registry::SupportedAudioCodec;

use super::decoder::{Codec, saturate, supported};

/// Outputs of the inverse quantisers: lower band by all 6 bits, lower band by the upper 4, upper band.
#[rustfmt::skip]
const LOWER_6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360, -8576, -7856,
    -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688, -1360, -1040, -728,
    24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456,
    4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
#[rustfmt::skip]
const LOWER_4: [i32; 16] = [
    0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0,
];
const UPPER: [i32; 4] = [-7408, -1616, 7408, 1616];

/// Increment of the logarithm of the step, by code (WL by RL42, WH by RH2).
#[rustfmt::skip]
const LOWER_STEPS: [i32; 16] = [
    -60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60,
];
const UPPER_STEPS: [i32; 4] = [798, -214, 798, -214];

/// Powers of two from 1 to 2 in 32 steps, times 2048 (ILB).
#[rustfmt::skip]
const POWERS: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
    2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

/// Every second coefficient of the receive quadrature mirror filter; the others are the same in reverse order.
const FILTER: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

/// Adaptive predictor and step of one sub-band.
struct Band {
    /// Logarithm of the step, and the step itself.
    log_step: i32,
    step: i32,
    /// The prediction, and the part of it that comes from differences.
    prediction: i32,
    from_differences: i32,
    /// The last two reconstructed samples and partial ones, the newest first.
    samples: [i32; 2],
    partial: [i32; 2],
    poles: [i32; 2],
    /// The last six differences, the newest first.
    differences: [i32; 6],
    zeros: [i32; 6],
}

impl Band {
    fn new(step: i32) -> Self {
        Self {
            log_step: 0,
            step,
            prediction: 0,
            from_differences: 0,
            samples: [0; 2],
            partial: [0; 2],
            poles: [0; 2],
            differences: [0; 6],
            zeros: [0; 6],
        }
    }

    /// Adapts the step (LOGSCL and SCALEL, LOGSCH and SCALEH). `most` is the largest logarithm, `octaves` the shift of the smallest.
    fn scale(&mut self, change: i32, most: i32, octaves: i32) {
        self.log_step = (((self.log_step * 127) >> 7) + change).clamp(0, most);
        let power = POWERS[(self.log_step >> 6 & 31) as usize];
        let shift = octaves - (self.log_step >> 11);
        let scaled = if shift < 0 {
            power << -shift
        } else {
            power >> shift
        };
        self.step = scaled << 2;
    }

    /// Adapts the predictor to a quantised difference and predicts the next sample (block 4).
    fn adapt(&mut self, difference: i32) {
        let sat = |number| i32::from(saturate(number));
        let sample = sat(self.prediction + difference);
        let partial = sat(self.from_differences + difference);
        let same = |other: i32| (partial < 0) == (other < 0);
        // UPPOL2, UPPOL1.
        let fourfold = sat(self.poles[0] << 2);
        let signed = if same(self.partial[0]) {
            -fourfold
        } else {
            fourfold
        }
        .min(32_767);
        let second = (if same(self.partial[1]) { 128 } else { -128 }
            + (signed >> 7)
            + ((self.poles[1] * 32_512) >> 15))
            .clamp(-12_288, 12_288);
        let most = sat(15_360 - second);
        let first = (if same(self.partial[0]) { 192 } else { -192 }
            + ((self.poles[0] * 32_640) >> 15))
            .clamp(-most, most);
        // UPZERO, DELAYA.
        let change = if difference == 0 { 0 } else { 128 };
        for (zero, before) in self.zeros.iter_mut().zip(&self.differences) {
            let signed = if (*before < 0) == (difference < 0) {
                change
            } else {
                -change
            };
            *zero = sat(signed + ((*zero * 32_640) >> 15));
        }
        self.differences.rotate_right(1);
        self.differences[0] = difference;
        self.samples = [sample, self.samples[0]];
        self.partial = [partial, self.partial[0]];
        self.poles = [first, second];
        // FILTEP, FILTEZ, PREDIC.
        let pole = |index: usize| (self.poles[index] * sat(2 * self.samples[index])) >> 15;
        let from_samples = sat(pole(0) + pole(1));
        let terms = self.zeros.iter().zip(&self.differences);
        self.from_differences = sat(terms
            .map(|(zero, before)| (zero * sat(2 * before)) >> 15)
            .sum());
        self.prediction = sat(from_samples + self.from_differences);
    }
}

pub(super) struct G722 {
    lower: Band,
    upper: Band,
    /// Sums and differences of the sub-bands, the newest last.
    history: [i32; 24],
}

impl Codec for G722 {
    const SUPPORTED: &'static [SupportedAudioCodec] =
        &[supported(CODEC_ID_ADPCM_G722, "g722", "G.722")];

    fn new(_: usize) -> Self {
        Self {
            lower: Band::new(32),
            upper: Band::new(8),
            history: [0; 24],
        }
    }

    fn decode(&mut self, blocks: &[u8], samples: &mut Vec<i16>) {
        for byte in blocks {
            let (low, high) = (usize::from(byte & 63), usize::from(byte >> 6));
            let within = |sample: i32| sample.clamp(-16_384, 16_383);
            let lower = within(self.lower.prediction + ((self.lower.step * LOWER_6[low]) >> 15));
            let difference = (self.lower.step * LOWER_4[low >> 2]) >> 15;
            self.lower.scale(LOWER_STEPS[low >> 2], 18_432, 8);
            self.lower.adapt(difference);

            let difference = (self.upper.step * UPPER[high]) >> 15;
            let upper = within(self.upper.prediction + difference);
            self.upper.scale(UPPER_STEPS[high], 22_528, 10);
            self.upper.adapt(difference);

            self.history.copy_within(2.., 0);
            self.history[22..].copy_from_slice(&[lower + upper, lower - upper]);
            let (mut even, mut odd) = (0, 0);
            for (pair, (first, last)) in self
                .history
                .chunks_exact(2)
                .zip(FILTER.iter().zip(FILTER.iter().rev()))
            {
                even += pair[0] * first;
                odd += pair[1] * last;
            }
            samples.extend([saturate(odd >> 11), saturate(even >> 11)]);
        }
    }
}
