//! MPEG program streams (`.mpg`, `.vob`; ISO/IEC 13818-1, 2.5; ISO/IEC 11172-1): the first MPEG audio stream.

use std::ops::Range;
use std::sync::Arc;

use super::content::{Coding, Content, no_audio};
use super::{adts, pes};
use crate::error::unsupported;
use crate::payload::{Piece, Pieces};
use crate::{Bytes, Error};

/// Start codes.
const PACK: u8 = 0xba;
const END: u8 = 0xb9;
const PRIVATE: u8 = 0xbd;

/// Bytes searched at a time for the next start code.
const SEARCH_BLOCK: usize = 256;

/// Whether a program stream starts at `offset`.
pub(crate) fn is_at(bytes: &Bytes, offset: u64) -> bool {
    bytes.array_at(offset).is_some_and(|[a, b, c, code, next]| {
        [a, b, c, code] == [0, 0, 1, PACK] && (next & 0xc4 == 0x44 || next & 0xf1 == 0x21)
    })
}

/// The audio of the file.
pub(crate) fn open(bytes: &Arc<Bytes>, range: Range<u64>) -> Result<Content, Error> {
    let packets = || Packets {
        bytes: bytes.clone(),
        offset: range.start,
        end: range.end,
    };
    let mut named = None;
    for (code, content) in packets() {
        if pes::AUDIO.contains(&code) {
            let coding = if adts::is_adts(bytes, content.start) {
                Coding::Adts
            } else {
                Coding::MpegAudio
            };
            return Ok(Content {
                container: "mpeg",
                coding,
                len: None,
                pieces: Box::new(Stream {
                    packets: packets(),
                    code,
                }),
            });
        }
        if code == PRIVATE && named.is_none() {
            // On DVDs the first byte is the substream ID.
            named = match bytes.array_at(content.start) {
                Some([0x80..=0x87 | 0xc0..=0xcf]) => Some("AC-3"),
                Some([0x88..=0x8f | 0x98..=0x9f]) => Some("DTS"),
                Some([0xa0..=0xa7]) => Some("DVD PCM"),
                Some([0xb0..=0xbf]) => Some("Dolby TrueHD"),
                _ => None,
            };
        }
    }
    Err(match named {
        Some(name) => unsupported(&format!("the codec {name} in mpeg")),
        None => no_audio("mpeg"),
    })
}

/// Stream ID and content of each packet.
struct Packets {
    bytes: Arc<Bytes>,
    offset: u64,
    end: u64,
}

impl Packets {
    /// Moves to the next start code at or after the current offset.
    fn synchronise(&mut self) -> Option<()> {
        let mut block = [0; SEARCH_BLOCK];
        while self.offset < self.end {
            let read = self.bytes.read_at(self.offset, &mut block);
            if let Some(at) = block[..read].windows(3).position(|code| code == [0, 0, 1]) {
                self.offset += at as u64;
                return Some(());
            }
            if read < block.len() {
                return None;
            }
            self.offset += read as u64 - 2;
        }
        None
    }
}

impl Iterator for Packets {
    type Item = (u8, Range<u64>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.offset < self.end {
            let start = self.offset;
            let [a, b, c, code] = self.bytes.array_at(start)?;
            match ([a, b, c], code) {
                ([0, 0, 1], PACK) => {
                    let is_mpeg_2 = self
                        .bytes
                        .array_at(start + 4)
                        .is_some_and(|[next]| next & 0xc0 == 0x40);
                    self.offset += if is_mpeg_2 {
                        let [stuffing] = self.bytes.array_at(start + 13)?;
                        14 + u64::from(stuffing & 7)
                    } else {
                        12
                    };
                }
                ([0, 0, 1], END) => self.offset += 4,
                ([0, 0, 1], 0xbb..) => {
                    let len = self.bytes.array_at(start + 4).map(u16::from_be_bytes)?;
                    let end = start + 6 + u64::from(len);
                    self.offset = end;
                    if (pes::AUDIO.contains(&code) || code == PRIVATE)
                        && let Some(header) = pes::header_len(&self.bytes, start)
                        && start + header < end
                    {
                        return Some((code, start + header..end.min(self.end)));
                    }
                }
                _ => {
                    self.offset += 1;
                    self.synchronise()?;
                }
            }
        }
        None
    }
}

/// The content of one stream.
struct Stream {
    packets: Packets,
    code: u8,
}

impl Pieces for Stream {
    fn next(&mut self) -> Option<Piece> {
        let code = self.code;
        self.packets
            .find(|packet| packet.0 == code)
            .map(|(_, content)| Piece::File(content))
    }
}
