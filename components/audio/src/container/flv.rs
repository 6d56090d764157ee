//! FLV (Adobe Flash Video File Format Specification, version 10.1): a sequence of tags; type 8 is audio.

use std::ops::Range;
use std::sync::Arc;

use symphonia::core::codecs::audio::well_known::*;

use super::aac;
use super::content::{Coding, Content, no_audio};
use crate::blocks::Blocks;
use crate::error::{damaged, unsupported};
use crate::payload::{Piece, Pieces};
use crate::{Bytes, Error};

/// Bytes of a tag header: type, length, timestamp, stream.
const TAG_HEADER: u64 = 11;

/// Bytes after a tag: its length again.
const TAG_TRAILER: u64 = 4;

/// Whether an FLV file starts at `offset`.
pub(crate) fn is_at(bytes: &Bytes, offset: u64) -> bool {
    bytes
        .array_at(offset)
        .is_some_and(|[a, b, c, version, flags]| {
            [a, b, c] == *b"FLV" && version < 5 && flags & 0xfa == 0
        })
}

/// The audio of the file.
pub(crate) fn open(bytes: &Arc<Bytes>, range: Range<u64>) -> Result<Content, Error> {
    let header = bytes
        .array_at(range.start + 5)
        .map_or(9, u32::from_be_bytes);
    let first = range.start + u64::from(header) + TAG_TRAILER;
    let mut tags = AudioTags {
        bytes: bytes.clone(),
        offset: first,
        end: range.end,
    };
    let Some(first_tag) = tags.next() else {
        return Err(no_audio("flv"));
    };
    let [flags] = bytes
        .array_at(first_tag.start)
        .ok_or_else(|| damaged("the FLV file ends in its first audio tag"))?;
    let channels = 1 + u32::from(flags & 1);
    let width = 1 + u64::from(flags >> 1 & 1);
    let rate = [5_512, 11_025, 22_050, 44_100][usize::from(flags >> 2 & 3)];
    let blocks = |codec, sample_rate, width| {
        Coding::Blocks(Blocks {
            codec,
            sample_rate,
            channels,
            bytes: width * u64::from(channels),
            frames: 1,
            low_bits: None,
        })
    };
    let mut aac = None;
    let coding = match flags >> 4 {
        // 0 is the byte order of the machine that wrote the file: in practice, little-endian.
        0 | 3 if width == 2 => blocks(CODEC_ID_PCM_S16LE, rate, 2),
        0 | 3 => blocks(CODEC_ID_PCM_U8, rate, 1),
        2 | 14 => Coding::MpegAudio,
        7 => blocks(CODEC_ID_PCM_ALAW, 8_000, 1),
        8 => blocks(CODEC_ID_PCM_MULAW, 8_000, 1),
        10 => {
            let is_config = |tag: &Range<u64>| bytes.array_at(tag.start + 1) == Some([0]);
            let config = std::iter::once(first_tag)
                .chain(std::iter::from_fn(|| tags.next()))
                .find(is_config)
                .ok_or_else(|| damaged("the FLV file has no configuration of its AAC audio"))?;
            let config = bytes.slice(config.start + 2..config.end.min(config.start + 66));
            aac = Some(aac::Config::read(&config)?.adts("flv")?);
            Coding::Adts
        }
        other => {
            let name = match other {
                1 => "ADPCM",
                4..=6 => "Nellymoser",
                9 => "of an extended header",
                11 => "Speex",
                _ => "of an unknown number",
            };
            return Err(unsupported(&format!("the codec {name} in flv")));
        }
    };
    tags.offset = first;
    Ok(Content {
        container: "flv",
        coding,
        len: None,
        pieces: match aac {
            Some(adts) => Box::new(aac::WithHeaders::new(Frames { tags, of_aac: true }, adts)),
            None => Box::new(Frames {
                tags,
                of_aac: false,
            }),
        },
    })
}

/// The content of the audio tags.
struct AudioTags {
    bytes: Arc<Bytes>,
    offset: u64,
    end: u64,
}

impl AudioTags {
    fn next(&mut self) -> Option<Range<u64>> {
        /// Tag type of audio, in the lower five bits; the others mark encryption.
        const AUDIO: u8 = 8;
        while self.offset < self.end {
            let [kind, a, b, c] = self.bytes.array_at(self.offset)?;
            let start = self.offset + TAG_HEADER;
            let end = start + u64::from(u32::from_be_bytes([0, a, b, c]));
            self.offset = end + TAG_TRAILER;
            let end = end.min(self.end);
            if kind & 0x1f == AUDIO && end > start {
                return Some(start..end);
            }
        }
        None
    }
}

/// The frames in the audio tags.
struct Frames {
    tags: AudioTags,
    /// For AAC, a second byte distinguishes frames (1) from the configuration (0).
    of_aac: bool,
}

impl Pieces for Frames {
    fn next(&mut self) -> Option<Piece> {
        loop {
            let first_tag = self.tags.next()?;
            if !self.of_aac {
                return Some(Piece::File(first_tag.start + 1..first_tag.end));
            }
            if first_tag.end - first_tag.start > 2
                && self.tags.bytes.array_at(first_tag.start + 1) == Some([1])
            {
                return Some(Piece::File(first_tag.start + 2..first_tag.end));
            }
        }
    }
}
