//! The sample entries of MP4 and QuickTime audio tracks (ISO/IEC 14496-12, 12.2.3; QuickTime File Format, Sound Sample
//! Descriptions).

use std::ops::Range;

use symphonia::core::codecs::audio::AudioCodecId;
use symphonia::core::codecs::audio::well_known::*;

use super::boxes::{atoms, inside};
use super::content::{Coding, four_cc};
use super::wave_format::pcm;
use crate::Bytes;
use crate::blocks::Blocks;

/// A sample entry.
pub(crate) struct SampleEntry {
    pub kind: Kind,
    /// Offset of the box `wave` of ALAC. symphonia looks for the configuration next to it, but in QuickTime it is inside.
    pub wave: Option<u64>,
}

/// How the samples are decoded.
pub(crate) enum Kind {
    /// Demultiplexed here.
    Coding(Coding),
    /// By symphonia, which also rejects unknown formats by name.
    Symphonia,
    /// Not supported, by name.
    Named(String),
}

/// The fields of an entry.
struct Fields {
    channels: u32,
    bits: u32,
    sample_rate: u32,
    /// Bytes per frame of all channels; in versions 1 and 2 of the entry.
    block: Option<u32>,
    /// Flags of `lpcm`; in version 2.
    flags: Option<u32>,
    /// Offset of the inner boxes.
    inner: u64,
}

impl SampleEntry {
    /// Reads the entry in `range`, including the header; `None` if it is truncated.
    pub(crate) fn read(bytes: &Bytes, range: Range<u64>) -> Option<Self> {
        let name: [u8; 4] = bytes.array_at(range.start + 4)?;
        let fields = Fields::read(bytes, range.start)?;
        let inner = fields.inner.min(range.end)..range.end;
        let entry = |kind, wave| Some(Self { kind, wave });
        match &name {
            b"mp4a" => {
                let kind = match object_type(bytes, inner) {
                    Some(0x69 | 0x6b) => Kind::Coding(Coding::MpegAudio),
                    Some(other) if !AAC.contains(&other) => Kind::Named(object_name(other)),
                    _ => Kind::Symphonia,
                };
                return entry(kind, None);
            }
            b"alac" => {
                let wave = atoms(bytes, inner).find(|atom| atom.name == *b"wave");
                return entry(Kind::Symphonia, wave.map(|atom| atom.named_at - 4));
            }
            b"fLaC" | b"Opus" => return entry(Kind::Symphonia, None),
            _ => {}
        }
        let kind = match codec(bytes, &name, &fields, inner) {
            Some((codec, bytes_each, frames)) => Kind::Coding(Coding::Blocks(Blocks {
                codec,
                sample_rate: fields.sample_rate,
                channels: fields.channels,
                bytes: bytes_each.saturating_mul(u64::from(fields.channels)),
                frames,
                low_bits: None,
            })),
            None => match &name {
                b".mp3" | b".mp2" | b".mp1" | b"ms\0U" | b"ms\0P" => {
                    Kind::Coding(Coding::MpegAudio)
                }
                name => Kind::Named(codec_name(name)),
            },
        };
        entry(kind, None)
    }
}

impl Fields {
    fn read(bytes: &Bytes, start: u64) -> Option<Self> {
        let short = |at: u64| bytes.array_at(start + at).map(u16::from_be_bytes);
        let long = |at: u64| bytes.array_at(start + at).map(u32::from_be_bytes);
        let version = short(16)?;
        let mut fields = Self {
            channels: u32::from(short(24)?),
            bits: u32::from(short(26)?),
            // Fixed-point, 16.16.
            sample_rate: long(32)? >> 16,
            block: None,
            flags: None,
            inner: start + 36,
        };
        match version {
            1 => {
                fields.block = Some(long(44)?);
                fields.inner = start + 52;
            }
            2 => {
                let rate = bytes.array_at(start + 40).map(f64::from_be_bytes)?;
                // The cast saturates.
                fields.sample_rate = rate.round() as u32;
                fields.channels = long(48)?;
                fields.bits = long(56)?;
                fields.flags = Some(long(60)?);
                fields.block = Some(long(64)?);
                fields.inner = start + 72;
            }
            _ => {}
        }
        Some(fields)
    }
}

/// Codec, bytes per block and channel, samples per block; `None` if it is not demultiplexed here.
fn codec(
    bytes: &Bytes,
    name: &[u8; 4],
    fields: &Fields,
    inner: Range<u64>,
) -> Option<(AudioCodecId, u64, u64)> {
    // Big-endian, unless the box `enda` says otherwise.
    let endian = || {
        inside(bytes, inner.clone(), &[b"wave", b"enda"])
            .or_else(|| inside(bytes, inner.clone(), &[b"enda"]))
    };
    let is_big = || {
        let flag = endian().and_then(|content| bytes.array_at(content.start));
        flag.map_or(0, u16::from_be_bytes) == 0
    };
    let linear = |is_float, width: u64, big| {
        let codec = match (is_float, width) {
            (false, 1) => CODEC_ID_PCM_S8,
            _ => pcm(is_float, width, big)?,
        };
        Some((codec, width, 1))
    };
    let width = u64::from(fields.bits.div_ceil(8));
    let channels = fields.channels.max(1);
    match name {
        b"raw " | b"NONE" if width <= 1 => Some((CODEC_ID_PCM_U8, 1, 1)),
        b"raw " | b"NONE" => linear(false, width, true),
        b"twos" => linear(false, width, is_big()),
        b"sowt" => linear(false, width, false),
        b"in24" => linear(false, 3, is_big()),
        b"in32" => linear(false, 4, is_big()),
        b"42ni" => linear(false, 3, false),
        b"23ni" => linear(false, 4, false),
        b"fl32" => linear(true, 4, is_big()),
        b"fl64" => linear(true, 8, is_big()),
        b"lpcm" => {
            let flags = fields.flags.unwrap_or(2 | 4);
            let width = match fields.block {
                Some(block) if block > 0 && block.is_multiple_of(channels) => block / channels,
                _ => fields.bits.div_ceil(8),
            };
            match (flags & 1 != 0, width, flags & 4 != 0) {
                (false, 1, false) => Some((CODEC_ID_PCM_U8, 1, 1)),
                (false, 2.., false) => None,
                (is_float, width, _) => linear(is_float, u64::from(width), flags & 2 != 0),
            }
        }
        // ISO/IEC 23003-5: the lowest flag means little-endian.
        b"ipcm" | b"fpcm" => {
            let content = inside(bytes, inner, &[b"pcmC"])?;
            let [flags, bits] = bytes.array_at(content.start + 4)?;
            let width = u64::from(bits).div_ceil(8);
            linear(name == b"fpcm", width, flags & 1 == 0)
        }
        b"ulaw" => Some((CODEC_ID_PCM_MULAW, 1, 1)),
        b"alaw" => Some((CODEC_ID_PCM_ALAW, 1, 1)),
        b"ima4" => Some((CODEC_ID_ADPCM_IMA_QT, 34, 64)),
        _ => None,
    }
}

/// Object types of AAC: MPEG-4 and MPEG-2.
const AAC: [u8; 4] = [0x40, 0x66, 0x67, 0x68];

/// Object type of an entry `mp4a`, from its elementary stream descriptor (ISO/IEC 14496-1, 7.2.6.5 and 7.2.6.6).
fn object_type(bytes: &Bytes, inner: Range<u64>) -> Option<u8> {
    let descriptor = inside(bytes, inner.clone(), &[b"esds"])
        .or_else(|| inside(bytes, inner, &[b"wave", b"esds"]))?;
    let content = bytes.slice(descriptor.start + 4..descriptor.end.min(descriptor.start + 64));
    let mut rest = content.into_iter();
    if tag(&mut rest)? != 3 {
        return None;
    }
    // The ES_ID, flags, and the optional fields before the next descriptor.
    let flags = rest.nth(2)?;
    if flags & 0x80 != 0 {
        rest.nth(1)?;
    }
    if flags & 0x40 != 0 {
        for _ in 0..rest.next()? {
            rest.next()?;
        }
    }
    if flags & 0x20 != 0 {
        rest.nth(1)?;
    }
    if tag(&mut rest)? != 4 {
        return None;
    }
    rest.next()
}

/// Reads the tag of a descriptor. Skips the length, which has seven bits per byte.
fn tag(rest: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let tag = rest.next()?;
    while rest.next()? & 0x80 != 0 {}
    Some(tag)
}

/// The usual name of an unsupported object type (mp4ra.org).
fn object_name(object_type: u8) -> String {
    match object_type {
        0xa5 => "AC-3",
        0xa6 => "Enhanced AC-3",
        0xa9..=0xac => "DTS",
        0xad => "Opus",
        0xae => "AC-4",
        0xdd => "Vorbis",
        0xe1 => "QCELP",
        other => return format!("of MPEG-4 object type 0x{other:02x}"),
    }
    .to_owned()
}

/// The usual name of an unsupported codec (mp4ra.org).
fn codec_name(name: &[u8; 4]) -> String {
    match name {
        b"ac-3" | b"sac3" => "AC-3",
        b"ec-3" => "Enhanced AC-3",
        b"samr" => "AMR",
        b"sawb" | b"sawp" => "AMR-WB",
        b"sevc" | b"sevs" => "EVS or EVRC",
        b"sqcp" | b"Qclp" => "QCELP",
        b"QDM2" | b"QDMC" => "QDesign Music",
        b"MAC3" | b"MAC6" => "MACE",
        b"dtsc" | b"dtsh" | b"dtsl" | b"dtse" | b"dtsx" => "DTS",
        b"mlpa" => "Dolby TrueHD",
        b"ac-4" => "AC-4",
        b"mha1" | b"mhm1" | b"mha2" | b"mhm2" => "MPEG-H",
        b"iamf" => "IAMF",
        b"enca" | b"drms" => "of an encrypted track",
        b"owma" | b"wma " => "Windows Media Audio",
        b"spex" => "Speex",
        b"agsm" => "GSM 06.10",
        b"ms\0\x02" => "Microsoft ADPCM",
        b"ms\0\x11" | b"dvi " => "Windows IMA ADPCM",
        b"ms\0\x31" => "GSM 06.10",
        b"lpcm" | b"ipcm" | b"fpcm" | b"twos" | b"sowt" | b"raw " | b"NONE" => {
            "PCM with an unusual width"
        }
        other => return four_cc(other),
    }
    .to_owned()
}
