//! Yamaha ADPCM (ADPCM-B of the YM2608 Application Manual): four bits per sample, with an adaptive step.

use symphonia::core::codecs::audio::AudioCodecId;
use symphonia::core::codecs::registry::SupportedAudioCodec;
use symphonia::core::common::FourCc;

use super::decoder::{Codec, saturate, supported};

/// ADPCM of Yamaha chips.
pub(crate) const CODEC_ID_YAMAHA: AudioCodecId = AudioCodecId::new(FourCc::new(*b"yama"));

/// Range of the step.
const STEPS: std::ops::RangeInclusive<i32> = 127..=24_576;

/// Factor of the step by the code's lower three bits, in 256ths.
const FACTORS: [i32; 8] = [230, 230, 230, 230, 307, 409, 512, 614];

/// One channel.
#[derive(Clone)]
struct Channel {
    sample: i16,
    step: i32,
}

impl Channel {
    fn next(&mut self, code: u8) -> i16 {
        let magnitude = i32::from(code & 7);
        let difference = self.step * (2 * magnitude + 1) / 8;
        let signed = if code & 8 == 0 {
            difference
        } else {
            -difference
        };
        self.sample = saturate(i32::from(self.sample) + signed);
        self.step =
            ((self.step * FACTORS[magnitude as usize]) >> 8).clamp(*STEPS.start(), *STEPS.end());
        self.sample
    }
}

pub(super) struct Yamaha(Vec<Channel>);

impl Codec for Yamaha {
    const SUPPORTED: &'static [SupportedAudioCodec] =
        &[supported(CODEC_ID_YAMAHA, "adpcm_yamaha", "Yamaha ADPCM")];

    fn new(channels: usize) -> Self {
        let channel = Channel {
            sample: 0,
            step: *STEPS.start(),
        };
        Self(vec![channel; channels.max(1)])
    }

    fn decode(&mut self, blocks: &[u8], samples: &mut Vec<i16>) {
        let codes = blocks.iter().flat_map(|byte| [byte & 15, byte >> 4]);
        let count = self.0.len();
        for (at, code) in codes.enumerate() {
            samples.push(self.0[at % count].next(code));
        }
    }
}
