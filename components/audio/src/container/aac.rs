//! AAC: the `AudioSpecificConfig` in containers (ISO/IEC 14496-3, 1.6.2.1), and the ADTS frame header used without one
//! (ISO/IEC 13818-7, 6.2).
//!
//! Only the core, AAC LC, is decoded. High-efficiency AAC adds the upper half of the spectrum (SBR) and a second channel (PS);
//! without them the audio has half the rate and one channel, which is enough for speech.

use crate::Error;
use crate::error::{damaged, unsupported};
use crate::payload::{Piece, Pieces};

/// Hz, by index.
pub(super) const SAMPLE_RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// Object types: AAC LC, and the two extensions whose core may be AAC LC.
const LC: u32 = 2;
const SBR: u32 = 5;
const PS: u32 = 29;

/// The part of an `AudioSpecificConfig` that describes the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Config {
    object_type: u32,
    /// Sample rate of the core, in Hz.
    pub sample_rate: u32,
    /// 0 if a program config element states the channels.
    channel_config: u32,
    /// Whether frames have 960 samples instead of 1024.
    short_frames: bool,
    /// Whether SBR or PS is signalled explicitly.
    pub is_extended: bool,
}

impl Config {
    pub(crate) fn read(config: &[u8]) -> Result<Self, Error> {
        Self::parse(&mut Bits {
            bytes: config,
            at: 0,
        })
        .ok_or_else(|| damaged("the configuration of the AAC audio is truncated"))
    }

    fn parse(bits: &mut Bits) -> Option<Self> {
        let mut object_type = bits.object_type()?;
        let sample_rate = bits.sample_rate()?;
        let channel_config = bits.take(4)?;
        let is_extended = object_type == SBR || object_type == PS;
        if is_extended {
            bits.sample_rate()?;
            object_type = bits.object_type()?;
        }
        Some(Self {
            object_type,
            sample_rate,
            channel_config,
            short_frames: bits.take(1).unwrap_or(0) == 1,
            is_extended,
        })
    }

    /// Channels of the core; 0 if a program config element states them.
    pub(crate) fn channels(&self) -> u32 {
        match self.channel_config {
            7 => 8,
            other => other,
        }
    }

    /// Rejects everything except AAC LC with one or two channels, by name.
    pub(crate) fn check(&self, container: &str) -> Result<(), Error> {
        let name = match self.object_type {
            LC if self.short_frames => "AAC with frames of 960 samples".to_owned(),
            LC => match self.channels() {
                1 | 2 => return Ok(()),
                0 => "AAC whose channels are in a program config element".to_owned(),
                count => format!("AAC with {count} channels"),
            },
            1 => "AAC Main".to_owned(),
            3 => "AAC SSR".to_owned(),
            4 => "AAC LTP".to_owned(),
            17 | 19 | 20 => "error-resilient AAC".to_owned(),
            22 => "BSAC".to_owned(),
            23 => "AAC-LD".to_owned(),
            32..=34 => "MPEG audio in an AAC track".to_owned(),
            36 => "MPEG-4 ALS".to_owned(),
            39 => "AAC-ELD".to_owned(),
            42 => "xHE-AAC (USAC)".to_owned(),
            other => format!("MPEG-4 audio of object type {other}"),
        };
        Err(unsupported(&format!("the codec {name} in {container}")))
    }

    /// The ADTS header fields of this stream.
    pub(crate) fn adts(&self, container: &str) -> Result<Adts, Error> {
        self.check(container)?;
        match SAMPLE_RATES
            .iter()
            .position(|rate| *rate == self.sample_rate)
        {
            Some(rate_index) => Ok(Adts {
                rate_index: rate_index as u32,
                channel_config: self.channel_config,
            }),
            None => Err(unsupported(&format!(
                "AAC at {} Hz in {container}",
                self.sample_rate
            ))),
        }
    }

    /// The `AudioSpecificConfig` of the core alone.
    pub(crate) fn core(&self) -> Box<[u8]> {
        let mut bits = u64::from(LC);
        let mut len = 5;
        let mut put = |value: u32, count: u32| {
            bits = bits << count | u64::from(value);
            len += count;
        };
        match SAMPLE_RATES
            .iter()
            .position(|rate| *rate == self.sample_rate)
        {
            Some(index) => put(index as u32, 4),
            None => {
                put(15, 4);
                put(self.sample_rate, 24);
            }
        }
        put(self.channel_config, 4);
        // 1024 samples, no core coder, no extension.
        put(0, 3);
        let whole = len.next_multiple_of(8);
        let bytes = (bits << (64 - len)).to_be_bytes();
        bytes[..(whole / 8) as usize].into()
    }
}

/// Creates ADTS headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Adts {
    rate_index: u32,
    channel_config: u32,
}

impl Adts {
    /// The header of a frame of `len` bytes; `None` if ADTS does not support that length.
    pub(crate) fn header(&self, len: u64) -> Option<[u8; 7]> {
        let len = u32::try_from(len).ok()? + 7;
        if len >= 1 << 13 {
            return None;
        }
        // After the syncword, MPEG-4 and no checksum: profile, rate, channels, length, variable bit rate, one raw data block.
        let fields = u64::from(LC - 1) << 38
            | u64::from(self.rate_index) << 34
            | u64::from(self.channel_config) << 30
            | u64::from(len) << 13
            | 0x7ff << 2;
        let [_, _, _, a, b, c, d, e] = fields.to_be_bytes();
        Some([0xff, 0xf1, a, b, c, d, e])
    }
}

/// Frames, each preceded by an ADTS header.
pub(crate) struct WithHeaders<P> {
    frames: P,
    adts: Adts,
    /// The frame of the header returned last.
    next: Option<Piece>,
}

impl<P: Pieces> WithHeaders<P> {
    pub(crate) fn new(frames: P, adts: Adts) -> Self {
        Self {
            frames,
            adts,
            next: None,
        }
    }
}

impl<P: Pieces> Pieces for WithHeaders<P> {
    fn next(&mut self) -> Option<Piece> {
        if let Some(frame) = self.next.take() {
            return Some(frame);
        }
        loop {
            let frame = self.frames.next()?;
            if let Piece::File(range) = &frame
                && range.start < range.end
                && let Some(header) = self.adts.header(range.end - range.start)
            {
                self.next = Some(frame);
                return Some(Piece::Inserted(header));
            }
        }
    }
}

/// Reads bits, most significant first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |bits, _| {
            let byte = self.bytes.get(self.at / 8)?;
            let bit = byte >> (7 - self.at % 8) & 1;
            self.at += 1;
            Some(bits << 1 | u32::from(bit))
        })
    }

    fn object_type(&mut self) -> Option<u32> {
        match self.take(5)? {
            31 => Some(32 + self.take(6)?),
            other => Some(other),
        }
    }

    /// Hz; 0 for a reserved index.
    fn sample_rate(&mut self) -> Option<u32> {
        match self.take(4)? {
            15 => self.take(24),
            index => Some(SAMPLE_RATES.get(index as usize).copied().unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_removed() {
        // Object type 29 (PS), 22.05 kHz, one channel, 44.1 kHz with the extension, core LC.
        let config = Config::read(&[0xeb, 0x8a, 0x08, 0x00]).unwrap();
        assert!(config.is_extended);
        assert_eq!((config.sample_rate, config.channels()), (22_050, 1));
        assert!(config.check("mp4").is_ok());
        assert_eq!(*config.core(), [0x13, 0x88]);
        let core = Config::read(&config.core()).unwrap();
        assert_eq!(
            core,
            Config {
                is_extended: false,
                ..config
            }
        );
    }

    #[test]
    fn unsupported_configurations_are_named() {
        for (config, name) in [
            (&[0x11, 0xb0][..], "AAC with 6 channels in mp4"),
            (&[0xba, 0x10], "AAC-LD in mp4"),
            (&[0x0a, 0x10], "AAC Main in mp4"),
            (&[0xf8, 0xe8, 0x40], "AAC-ELD in mp4"),
            (&[0x12, 0x14], "960 samples"),
        ] {
            match Config::read(config).and_then(|config| config.check("mp4")) {
                Err(Error::UnsupportedCodec(text)) => assert!(text.contains(name), "{text}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn headers_match_ffmpeg() {
        // 44.1 kHz, two channels; as ffmpeg writes it for a frame of 364 bytes including the header.
        let adts = Config::read(&[0x12, 0x10]).unwrap().adts("flv").unwrap();
        assert_eq!(
            adts.header(357),
            Some([0xff, 0xf1, 0x50, 0x80, 0x2d, 0x9f, 0xfc])
        );
        assert_eq!(adts.header(8185), None);
    }
}
