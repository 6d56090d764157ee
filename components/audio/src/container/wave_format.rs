//! `WAVEFORMATEX` (mmreg.h), which describes the audio in WAV and AVI, and sometimes in Matroska.

use symphonia::core::codecs::audio::AudioCodecId;
use symphonia::core::codecs::audio::well_known::*;

use super::content::Coding;
use crate::Error;
use crate::blocks::Blocks;
use crate::codec::{CODEC_ID_GSM_MS, CODEC_ID_YAMAHA};
use crate::error::{damaged, unsupported};

/// Bytes without extension.
const BASE: usize = 16;

/// Maximum bytes read of a format, including the extension.
pub(crate) const MAX_LEN: u64 = 64;

/// WAVE_FORMAT_EXTENSIBLE: the format tag is in the extension.
const EXTENSIBLE: u16 = 0xfffe;

/// The bytes after the format tag in the GUID of the extension (ksmedia.h).
const BASE_GUID: [u8; 14] = *b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";

/// The same for B-format (ambisonic) recordings, whose first channel is that of an ordinary microphone.
const AMBISONIC_GUID: [u8; 14] = *b"\0\0\x21\x07\xd3\x11\x86\x44\xc8\xc1\xca\0\0\0";

/// The fields, with the extension's format tag if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WaveFormat {
    tag: u16,
    channels: u16,
    sample_rate: u32,
    block_align: u16,
    bits: u16,
    big_endian: bool,
}

impl WaveFormat {
    /// Reads the content of a `fmt ` chunk; `None` if it is too short. Numbers and samples are big-endian only in RIFX.
    pub(crate) fn read(fmt: &[u8], big_endian: bool) -> Option<Self> {
        let short = |at: usize| {
            let two = [*fmt.get(at)?, *fmt.get(at + 1)?];
            Some(if big_endian {
                u16::from_be_bytes(two)
            } else {
                u16::from_le_bytes(two)
            })
        };
        let long = |at: usize| {
            let (a, b) = (u32::from(short(at)?), u32::from(short(at + 2)?));
            Some(if big_endian { a << 16 | b } else { b << 16 | a })
        };
        let tag = short(0)?;
        let extended = (tag == EXTENSIBLE).then(|| {
            let guid = fmt.get(BASE + 10..BASE + 24)?;
            [BASE_GUID, AMBISONIC_GUID]
                .iter()
                .any(|known| known == guid)
                .then(|| short(BASE + 8))
                .flatten()
        });
        Some(Self {
            tag: extended.map_or(tag, |real| real.unwrap_or(EXTENSIBLE)),
            channels: short(2)?,
            sample_rate: long(4)?,
            block_align: short(12)?,
            // Missing in the oldest structure, WAVEFORMAT.
            bits: short(14).unwrap_or(0),
            big_endian,
        })
    }

    /// The format tag.
    pub(crate) fn tag(&self) -> u16 {
        self.tag
    }

    /// Coding of the audio; an error that names `container` if it is not supported. `starts_with_adts` is called only for AAC.
    pub(crate) fn coding(
        &self,
        container: &str,
        starts_with_adts: impl Fn() -> bool,
    ) -> Result<Coding, Error> {
        let refused = |what: &str| unsupported(&format!("the codec {what} in {container}"));
        let channels = u64::from(self.channels);
        if channels == 0 {
            return Err(damaged(&format!(
                "the {container} header states no channel"
            )));
        }
        let invalid_blocks = || {
            damaged(&format!(
                "the {container} header states an invalid block size"
            ))
        };
        let block_align = u64::from(self.block_align);
        let blocks = |codec, bytes, frames| {
            Ok(Coding::Blocks(Blocks {
                codec,
                sample_rate: self.sample_rate,
                channels: u32::from(self.channels),
                bytes,
                frames,
                low_bits: None,
            }))
        };
        // ADPCM: the samples per block follow from its length. If the header also states them, they may be wrong.
        let nibbles = |header: u64, first: u64| {
            let rest = block_align.checked_sub(header * channels)?;
            Some(rest * 2 / channels + first)
        };
        match self.tag {
            0x0001 | 0x0003 => {
                let is_float = self.tag == 0x0003;
                let bytes = self.sample_bytes();
                let Some(codec) = pcm(is_float, bytes, self.big_endian) else {
                    let kind = if is_float {
                        "floating-point"
                    } else {
                        "integer"
                    };
                    return Err(refused(&format!("{}-bit {kind} PCM", self.bits)));
                };
                blocks(codec, bytes * channels, 1)
            }
            // The bit depth is ignored: some writers state 16.
            0x0006 => blocks(CODEC_ID_PCM_ALAW, channels, 1),
            0x0007 => blocks(CODEC_ID_PCM_MULAW, channels, 1),
            0x0002 if channels <= 2 => match nibbles(7, 2) {
                Some(frames) => blocks(CODEC_ID_ADPCM_MS, block_align, frames),
                None => Err(invalid_blocks()),
            },
            // Two channels alternate every eight samples.
            0x0011 if self.bits == 4 && channels <= 2 => match nibbles(4, 1) {
                Some(frames) if channels == 1 || frames % 8 == 1 => {
                    blocks(CODEC_ID_ADPCM_IMA_WAV, block_align, frames)
                }
                _ => Err(invalid_blocks()),
            },
            0x0020 if channels <= 2 => blocks(CODEC_ID_YAMAHA, channels, 2),
            0x0031 if channels == 1 => blocks(CODEC_ID_GSM_MS, 65, 320),
            0x0065 | 0x028f if channels == 1 => blocks(CODEC_ID_ADPCM_G722, 1, 2),
            0x0050 | 0x0055 => Ok(Coding::MpegAudio),
            0x1600 => Ok(Coding::Adts),
            // ffmpeg copies AAC with its ADTS headers, and states the format of AAC without them.
            0x00ff if starts_with_adts() => Ok(Coding::Adts),
            tag => Err(refused(&name(tag))),
        }
    }

    /// Bytes per sample, from the block size if possible: 24 bits may be stored in four bytes.
    fn sample_bytes(&self) -> u64 {
        let stated = u64::from(self.bits).div_ceil(8);
        let (align, channels) = (u64::from(self.block_align), u64::from(self.channels));
        if align.is_multiple_of(channels) && (stated..=8).contains(&(align / channels)) {
            align / channels
        } else {
            stated
        }
    }

    /// The usual name of the codec.
    pub(crate) fn name(&self) -> String {
        match self.tag {
            0x0001 => format!("{}-bit PCM", self.bits),
            0x0003 => format!("{}-bit floating-point PCM", self.bits),
            0x0006 => "A-law".to_owned(),
            0x0007 => "µ-law".to_owned(),
            0x0050 | 0x0055 => "MPEG audio".to_owned(),
            tag => name(tag),
        }
    }

    /// Bits per sample, if fewer than the 32 bits of the containing word.
    pub(crate) fn narrow_bits(&self) -> Option<u32> {
        let bits = u32::from(self.bits);
        (self.tag == 0x0001 && bits < 32 && self.sample_bytes() == 4).then_some(bits)
    }
}

/// Codec of PCM with `bytes` bytes per sample.
pub(crate) fn pcm(is_float: bool, bytes: u64, big_endian: bool) -> Option<AudioCodecId> {
    Some(match (is_float, bytes, big_endian) {
        (false, 1, _) => CODEC_ID_PCM_U8,
        (false, 2, false) => CODEC_ID_PCM_S16LE,
        (false, 3, false) => CODEC_ID_PCM_S24LE,
        (false, 4, false) => CODEC_ID_PCM_S32LE,
        (false, 2, true) => CODEC_ID_PCM_S16BE,
        (false, 3, true) => CODEC_ID_PCM_S24BE,
        (false, 4, true) => CODEC_ID_PCM_S32BE,
        (true, 4, false) => CODEC_ID_PCM_F32LE,
        (true, 8, false) => CODEC_ID_PCM_F64LE,
        (true, 4, true) => CODEC_ID_PCM_F32BE,
        (true, 8, true) => CODEC_ID_PCM_F64BE,
        _ => return None,
    })
}

/// The usual name of an unsupported codec (mmreg.h, RFC 2361).
fn name(tag: u16) -> String {
    match tag {
        0x0002 => "Microsoft ADPCM with more than two channels",
        0x0008 | 0x2001 => "DTS",
        0x000a => "Windows Media Audio Voice",
        0x0010 | 0x0200 => "OKI or Creative ADPCM",
        0x0011 => "IMA ADPCM with other than 4 bits or more than two channels",
        0x0014 | 0x0040 => "G.721 or G.723 ADPCM",
        0x0016 | 0x0045 | 0x0064 => "G.726 ADPCM",
        0x0017 => "Dialogic OKI ADPCM",
        0x0020 => "Yamaha ADPCM with more than two channels",
        0x0022 => "TrueSpeech",
        0x0031 => "GSM 06.10 with more than one channel",
        0x0032 => "MSN Audio",
        0x0038 | 0x0057 | 0x7361 => "AMR",
        0x0042 => "G.723.1",
        0x0065 | 0x028f => "G.722 with more than one channel",
        0x0075 => "Voxware",
        0x0083 => "G.729",
        0x0092 | 0x2000 => "AC-3",
        0x00ff | 0x1601 | 0x1602 | 0x1610 | 0xa106 => "AAC without ADTS headers",
        0x0130 | 0x0402 => "Sipro or Indeo audio",
        0x0160 | 0x0161 => "Windows Media Audio",
        0x0162 => "Windows Media Audio Professional",
        0x0163 => "Windows Media Audio Lossless",
        0x0270 => "ATRAC3",
        0x566f | 0x674f..=0x6751 | 0x676f..=0x6771 => "Vorbis",
        0x704f => "Opus",
        0xa109 => "Speex",
        0xf1ac => "FLAC",
        EXTENSIBLE => "of an unknown WAVE_FORMAT_EXTENSIBLE",
        other => return format!("of WAVE format 0x{other:04x}"),
    }
    .to_owned()
}
