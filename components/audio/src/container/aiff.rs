//! AIFF and AIFF-C (Apple, 1991): big-endian chunks, of which `COMM` describes the samples in `SSND`.

use std::ops::Range;

use symphonia::core::codecs::audio::AudioCodecId;
use symphonia::core::codecs::audio::well_known::*;

use super::chunks::{Style, chunks};
use super::content::{Coding, Content, four_cc};
use crate::blocks::Blocks;
use crate::error::{damaged, unsupported};
use crate::payload::Single;
use crate::{Bytes, Error};

/// Bytes before the first chunk.
const FILE_HEADER: u64 = 12;

/// Whether an AIFF file starts at `offset`.
pub(crate) fn is_at(bytes: &Bytes, offset: u64) -> bool {
    bytes.array_at::<12>(offset).is_some_and(|header| {
        header.starts_with(b"FORM") && (header.ends_with(b"AIFF") || header.ends_with(b"AIFC"))
    })
}

/// The audio of the file. An invalid length means the rest of the file.
pub(crate) fn open(bytes: &Bytes, range: Range<u64>) -> Result<Content, Error> {
    let mut common = None;
    let mut sound = None;
    for chunk in chunks(bytes, range.start + FILE_HEADER, range.end, Style::Iff) {
        match &chunk.name {
            b"COMM" => common = Some(bytes.slice(chunk.start..chunk.start + chunk.len.min(22))),
            b"SSND" => {
                let offset = bytes.array_at(chunk.start).map_or(0, u32::from_be_bytes);
                let start = chunk.start.saturating_add(8 + u64::from(offset));
                let end = if chunk.len <= 8 {
                    range.end
                } else {
                    chunk.end().min(range.end)
                };
                sound = Some((start.min(end)..end, chunk.len == 0));
                if chunk.len == 0 {
                    break;
                }
            }
            _ => {}
        }
        if common.is_some() && sound.is_some() {
            break;
        }
    }
    let Some(common) = common else {
        return Err(damaged("the AIFF file has no COMM chunk"));
    };
    let Some(Common {
        channels,
        frames,
        bits,
        sample_rate,
        compression,
    }) = Common::read(&common)
    else {
        return Err(damaged("the AIFF header is truncated"));
    };
    let Some((sound, unset)) = sound else {
        return Err(damaged("the AIFF file has no SSND chunk"));
    };
    let (codec, bytes_each, block_frames) = codec(&compression, bits)?;
    let block = bytes_each * u64::from(channels);
    // If the chunk has no length, the number of frames determines where the samples end.
    let stated = u64::from(frames).saturating_mul(block);
    let end = if unset && frames > 0 && block_frames == 1 {
        sound.start.saturating_add(stated).min(sound.end)
    } else {
        sound.end
    };
    Ok(Content {
        container: "aiff",
        coding: Coding::Blocks(Blocks {
            codec,
            sample_rate,
            channels: u32::from(channels),
            bytes: block,
            frames: block_frames,
            low_bits: None,
        }),
        len: Some(end - sound.start),
        pieces: Box::new(Single::new(sound.start..end)),
    })
}

/// The chunk `COMM`.
struct Common {
    channels: u16,
    frames: u32,
    bits: u16,
    sample_rate: u32,
    /// `NONE` in AIFF.
    compression: [u8; 4],
}

impl Common {
    fn read(content: &[u8]) -> Option<Self> {
        let (fields, rest) = content.split_first_chunk::<18>()?;
        let short = |at: usize| u16::from_be_bytes([fields[at], fields[at + 1]]);
        Some(Self {
            channels: short(0),
            frames: u32::from(short(2)) << 16 | u32::from(short(4)),
            bits: short(6),
            sample_rate: extended(fields.last_chunk()?),
            compression: rest.first_chunk().copied().unwrap_or(*b"NONE"),
        })
    }
}

/// An IEEE 754 80-bit extended float (sign and exponent, then a 64-bit mantissa), rounded; 0 if it is out of range.
fn extended(number: &[u8; 10]) -> u32 {
    let [high, low, mantissa @ ..] = *number;
    let exponent = i32::from(u16::from_be_bytes([high, low])) - 16383;
    let shift = 63 - exponent;
    if !(32..=63).contains(&shift) {
        return 0;
    }
    let rounded = (u64::from_be_bytes(mantissa) >> (shift - 1)).saturating_add(1) >> 1;
    u32::try_from(rounded).unwrap_or(0)
}

/// Codec, bytes per block and channel, samples per block.
fn codec(compression: &[u8; 4], bits: u16) -> Result<(AudioCodecId, u64, u64), Error> {
    let bytes = u64::from(bits.div_ceil(8));
    let linear = |little_endian: bool| {
        Some(match (bytes, little_endian) {
            (1, _) => CODEC_ID_PCM_S8,
            (2, false) => CODEC_ID_PCM_S16BE,
            (3, false) => CODEC_ID_PCM_S24BE,
            (4, false) => CODEC_ID_PCM_S32BE,
            (2, true) => CODEC_ID_PCM_S16LE,
            (3, true) => CODEC_ID_PCM_S24LE,
            (4, true) => CODEC_ID_PCM_S32LE,
            _ => return None,
        })
    };
    let known = match &compression.map(|letter| letter.to_ascii_lowercase()) {
        b"none" | b"twos" => linear(false).map(|codec| (codec, bytes, 1)),
        b"sowt" => linear(true).map(|codec| (codec, bytes, 1)),
        b"raw " => Some((CODEC_ID_PCM_U8, 1, 1)),
        b"in24" => Some((CODEC_ID_PCM_S24BE, 3, 1)),
        b"in32" => Some((CODEC_ID_PCM_S32BE, 4, 1)),
        b"42ni" => Some((CODEC_ID_PCM_S24LE, 3, 1)),
        b"23ni" => Some((CODEC_ID_PCM_S32LE, 4, 1)),
        b"fl32" => Some((CODEC_ID_PCM_F32BE, 4, 1)),
        b"fl64" => Some((CODEC_ID_PCM_F64BE, 8, 1)),
        b"alaw" => Some((CODEC_ID_PCM_ALAW, 1, 1)),
        b"ulaw" => Some((CODEC_ID_PCM_MULAW, 1, 1)),
        b"ima4" => Some((CODEC_ID_ADPCM_IMA_QT, 34, 64)),
        _ => None,
    };
    known.ok_or_else(|| {
        let name = match compression {
            b"GSM " | b"agsm" => "GSM 06.10".to_owned(),
            b"MAC3" | b"MAC6" => "MACE".to_owned(),
            b"QDM2" | b"QDMC" => "QDesign Music".to_owned(),
            b"Qclp" => "QCELP".to_owned(),
            b"G722" => "G.722".to_owned(),
            b"G726" => "G.726 ADPCM".to_owned(),
            b"NONE" | b"twos" | b"sowt" => format!("{bits}-bit PCM"),
            other => four_cc(other),
        };
        unsupported(&format!("the codec {name} in aiff"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_parsed_from_the_extended_format() {
        for (number, rate) in [
            (b"\x40\x0b\xfa\x00\0\0\0\0\0\0", 8_000),
            (b"\x40\x0e\xac\x44\0\0\0\0\0\0", 44_100),
            // 22254.5454… Hz, of the first Macintosh.
            (b"\x40\x0d\xad\xdd\x17\x45\xd1\x45\xd1\x74", 22_255),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 0),
        ] {
            assert_eq!(extended(number), rate);
        }
    }
}
