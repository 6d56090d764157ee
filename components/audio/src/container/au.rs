//! AU (Sun and NeXT): a header of six big-endian numbers, then the samples.

use std::ops::Range;

use symphonia::core::codecs::audio::well_known::*;

use super::content::{Coding, Content};
use crate::blocks::Blocks;
use crate::error::{damaged, unsupported};
use crate::payload::Single;
use crate::{Bytes, Error};

/// Magic number.
pub(crate) const START: [u8; 4] = *b".snd";

/// The audio of the file. A length of 0 or -1, or past the end, means the rest of the file.
pub(crate) fn open(bytes: &Bytes, range: Range<u64>) -> Result<Content, Error> {
    let Some(header) = bytes.array_at::<24>(range.start) else {
        return Err(damaged("the AU header is truncated"));
    };
    let number = |index: usize| {
        let at = 4 * index;
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let (offset, len, encoding) = (number(1), number(2), number(3));
    let (sample_rate, channels) = (number(4), number(5));
    // Encoding numbers: `audio/au.h` of SunOS.
    let (codec, bytes_each, frames) = match encoding {
        1 => (CODEC_ID_PCM_MULAW, 1, 1),
        2 => (CODEC_ID_PCM_S8, 1, 1),
        3 => (CODEC_ID_PCM_S16BE, 2, 1),
        4 => (CODEC_ID_PCM_S24BE, 3, 1),
        5 => (CODEC_ID_PCM_S32BE, 4, 1),
        6 => (CODEC_ID_PCM_F32BE, 4, 1),
        7 => (CODEC_ID_PCM_F64BE, 8, 1),
        24 if channels == 1 => (CODEC_ID_ADPCM_G722, 1, 2),
        27 => (CODEC_ID_PCM_ALAW, 1, 1),
        other => {
            let name = match other {
                23 => "G.721 ADPCM".to_owned(),
                24 => "G.722 with more than one channel".to_owned(),
                25 | 26 => "G.723 ADPCM".to_owned(),
                _ => format!("of AU encoding {other}"),
            };
            return Err(unsupported(&format!("the codec {name} in au")));
        }
    };
    let start = (range.start + u64::from(offset.max(24))).min(range.end);
    let stated = start.saturating_add(u64::from(len));
    let end = if len == 0 || len == u32::MAX {
        range.end
    } else {
        stated.min(range.end)
    };
    Ok(Content {
        container: "au",
        coding: Coding::Blocks(Blocks {
            codec,
            sample_rate,
            channels,
            bytes: bytes_each * u64::from(channels),
            frames,
            low_bits: None,
        }),
        len: Some(end - start),
        pieces: Box::new(Single::new(start..end)),
    })
}
