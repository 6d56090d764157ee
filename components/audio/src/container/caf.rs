//! CAF (Apple, Core Audio Format Specification 1.0) with PCM, G.711 or IMA ADPCM. symphonia reads other codecs.

use std::ops::Range;

use symphonia::core::codecs::audio::well_known::*;

use super::content::{Coding, Content, four_cc};
use super::wave_format::pcm;
use crate::blocks::Blocks;
use crate::error::{damaged, unsupported};
use crate::payload::Single;
use crate::{Bytes, Error};

/// Bytes before the first chunk, and per chunk header.
const FILE_HEADER: u64 = 8;
const CHUNK_HEADER: u64 = 12;

/// Codecs that symphonia reads from CAF, or rejects by name.
const SYMPHONIA: [&[u8; 4]; 7] = [
    b"aac ", b"alac", b"flac", b"opus", b".mp1", b".mp2", b".mp3",
];

/// The audio of the file; `None` if symphonia reads it.
pub(crate) fn open(bytes: &Bytes, range: Range<u64>) -> Result<Option<Content>, Error> {
    let mut description: Option<[u8; 32]> = None;
    let mut data = None;
    let mut offset = range.start + FILE_HEADER;
    while offset < range.end {
        let Some(header) = bytes.array_at::<12>(offset) else {
            break;
        };
        let [a, b, c, d, len @ ..] = header;
        let start = offset + CHUNK_HEADER;
        let len = i64::from_be_bytes(len);
        // -1 means the rest of the file.
        let end = u64::try_from(len).map_or(range.end, |len| start.saturating_add(len));
        match &[a, b, c, d] {
            b"desc" => description = bytes.array_at(start),
            b"data" => {
                let end = end.min(range.end);
                // An edit count precedes the samples.
                data = Some((start + 4).min(end)..end);
            }
            _ => {}
        }
        if description.is_some() && data.is_some() {
            break;
        }
        offset = end;
    }
    let Some(description) = description else {
        return Err(damaged("the CAF file has no audio description"));
    };
    let number = |at: usize| {
        u32::from_be_bytes([
            description[at],
            description[at + 1],
            description[at + 2],
            description[at + 3],
        ])
    };
    let (name, flags, packet, channels, bits) =
        (number(8), number(12), number(16), number(24), number(28));
    let name = name.to_be_bytes();
    if SYMPHONIA.contains(&&name) {
        return Ok(None);
    }
    let Some(data) = data else {
        return Err(damaged("the CAF file has no audio data"));
    };
    if channels == 0 {
        return Err(damaged("the CAF header states no channel"));
    }
    let known = match &name {
        b"lpcm" => {
            let bytes_each = if packet > 0 && packet.is_multiple_of(channels) {
                packet / channels
            } else {
                bits.div_ceil(8)
            };
            match (flags & 1 != 0, bytes_each, flags & 2 == 0) {
                (false, 1, _) => Some(CODEC_ID_PCM_S8),
                (is_float, bytes, big) => pcm(is_float, u64::from(bytes), big),
            }
            .map(|codec| (codec, u64::from(bytes_each), 1))
        }
        b"alaw" => Some((CODEC_ID_PCM_ALAW, 1, 1)),
        b"ulaw" => Some((CODEC_ID_PCM_MULAW, 1, 1)),
        b"ima4" => Some((CODEC_ID_ADPCM_IMA_QT, 34, 64)),
        _ => None,
    };
    let Some((codec, bytes_each, frames)) = known else {
        let name = match &name {
            b"lpcm" => format!("{bits}-bit PCM"),
            b"MAC3" | b"MAC6" => "MACE".to_owned(),
            b"QDM2" | b"QDMC" => "QDesign Music".to_owned(),
            b"agsm" => "GSM 06.10".to_owned(),
            b"ac-3" => "AC-3".to_owned(),
            b"samr" => "AMR".to_owned(),
            b"ilbc" => "iLBC".to_owned(),
            b"aach" | b"aacp" | b"aacl" | b"aace" | b"aacf" => "AAC other than LC".to_owned(),
            other => four_cc(other),
        };
        return Err(unsupported(&format!("the codec {name} in caf")));
    };
    let rate: [u8; 8] = std::array::from_fn(|i| description[i]);
    Ok(Some(Content {
        container: "caf",
        coding: Coding::Blocks(Blocks {
            codec,
            // The cast saturates.
            sample_rate: f64::from_be_bytes(rate).round() as u32,
            channels,
            bytes: bytes_each * u64::from(channels),
            frames,
            low_bits: None,
        }),
        len: Some(data.end - data.start),
        pieces: Box::new(Single::new(data)),
    }))
}
