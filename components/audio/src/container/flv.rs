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

/// Tag types in the lower five bits, of which the others mark encryption: audio, video, script data.
const KINDS: [u8; 3] = [AUDIO, 9, 18];
const AUDIO: u8 = 8;

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

struct Tag {
    kind: u8,
    content: Range<u64>,
}

/// The content of the audio tags. Damaged ones are skipped.
struct AudioTags {
    bytes: Arc<Bytes>,
    offset: u64,
    end: u64,
}

impl AudioTags {
    fn next(&mut self) -> Option<Range<u64>> {
        while self.offset < self.end {
            let Some(tag) = self.tag_at(self.offset).filter(|tag| self.is_intact(tag)) else {
                self.offset = self.find_tag(self.offset + 1)?;
                continue;
            };
            self.offset = tag.content.end + TAG_TRAILER;
            let content = tag.content.start..tag.content.end.min(self.end);
            if tag.kind == AUDIO && !content.is_empty() {
                return Some(content);
            }
        }
        None
    }

    /// The tag at `offset`, if there can be one: its type is known, and its stream is 0.
    fn tag_at(&self, offset: u64) -> Option<Tag> {
        let [kind, a, b, c, _, _, _, _, stream @ ..] = self.bytes.array_at::<11>(offset)?;
        let start = offset + TAG_HEADER;
        let kind = kind & 0x1f;
        (KINDS.contains(&kind) && stream == [0; 3]).then_some(Tag {
            kind,
            content: start..start + u64::from(u32::from_be_bytes([0, a, b, c])),
        })
    }

    /// Whether the length of a tag is right: the trailer repeats it, or another tag follows, or the file ends.
    fn is_intact(&self, tag: &Tag) -> bool {
        let next = tag.content.end + TAG_TRAILER;
        next >= self.end || self.has_trailer(tag) || self.tag_at(next).is_some()
    }

    fn has_trailer(&self, tag: &Tag) -> bool {
        let len = tag.content.end - tag.content.start + TAG_HEADER;
        let trailer = self.bytes.array_at(tag.content.end).map(u32::from_be_bytes);
        trailer.map(u64::from) == Some(len)
    }

    /// Offset of the first tag at or after `from`, past damage.
    fn find_tag(&self, from: u64) -> Option<u64> {
        (from..self.end).find(|offset| {
            let tag = self.tag_at(*offset);
            tag.is_some_and(|tag| self.has_trailer(&tag))
        })
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
