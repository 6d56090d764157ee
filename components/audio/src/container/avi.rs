//! AVI, and OpenDML for files larger than 2 GiB: the first audio stream that can be decoded. The index is not used.

use std::ops::Range;
use std::sync::Arc;

use super::chunks::{Chunk, Style, chunk_at, chunks};
use super::content::{Coding, Content, no_audio};
use super::wave_format::{MAX_LEN, WaveFormat};
use super::{aac, adts};
use crate::error::damaged;
use crate::payload::{Piece, Pieces};
use crate::{Bytes, Error};

/// Bytes before the first chunk.
const FILE_HEADER: u64 = 12;

/// Chunk names contain the stream number in two digits.
const MAX_STREAMS: usize = 100;

/// WAVE format tag of AAC, with the `AudioSpecificConfig` as the extension.
const AAC: u16 = 0x00ff;

/// The audio of the file.
pub(crate) fn open(bytes: &Arc<Bytes>, range: Range<u64>) -> Result<Content, Error> {
    let mut refused = None;
    for (number, format) in audio_streams(bytes, &range) {
        let pieces = AudioChunks {
            bytes: bytes.clone(),
            offset: range.start + FILE_HEADER,
            end: range.end,
            name: [b'0' + number / 10, b'0' + number % 10, b'w', b'b'],
        };
        match open_stream(&format, pieces) {
            Ok(content) => return Ok(content),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| no_audio("avi")))
}

fn open_stream(format: &[u8], pieces: AudioChunks) -> Result<Content, Error> {
    let Some(wave) = WaveFormat::read(format, false) else {
        return Err(damaged("the AVI file does not describe its audio"));
    };
    let (coding, pieces): (_, Box<dyn Pieces>) = match format.get(18..) {
        Some(config) if wave.tag() == AAC && config.len() >= 2 => {
            let adts = aac::Config::read(config)?.adts("avi")?;
            (Coding::Adts, Box::new(aac::WithHeaders::new(pieces, adts)))
        }
        _ => {
            let starts_with_adts = || match pieces.clone().next() {
                Some(Piece::File(first)) => adts::is_adts(&pieces.bytes, first.start),
                _ => false,
            };
            (wave.coding("avi", starts_with_adts)?, Box::new(pieces))
        }
    };
    Ok(Content {
        container: "avi",
        coding,
        len: None,
        pieces,
    })
}

/// Number and format of each audio stream.
fn audio_streams(bytes: &Bytes, range: &Range<u64>) -> Vec<(u8, Vec<u8>)> {
    let list = |chunk: &Chunk, form: &[u8; 4]| {
        chunk.name == *b"LIST" && bytes.array_at(chunk.start) == Some(*form)
    };
    let inside = |chunk: Chunk| {
        chunks(
            bytes,
            chunk.start + 4,
            chunk.end().min(range.end),
            Style::Riff,
        )
    };
    let header = chunks(bytes, range.start + FILE_HEADER, range.end, Style::Riff)
        .find(|chunk| list(chunk, b"hdrl"));
    let Some(header) = header else {
        return Vec::new();
    };
    let streams = inside(header).filter(|chunk| list(chunk, b"strl"));
    (0..)
        .zip(streams.take(MAX_STREAMS))
        .filter_map(|(number, stream)| {
            let mut is_audio = false;
            let mut format = None;
            for chunk in inside(stream) {
                match &chunk.name {
                    b"strh" => is_audio = bytes.array_at(chunk.start) == Some(*b"auds"),
                    b"strf" => {
                        let end = chunk.end().min(chunk.start + MAX_LEN);
                        format = Some(bytes.slice(chunk.start..end));
                    }
                    _ => {}
                }
            }
            is_audio.then_some((number, format?))
        })
        .collect()
}

/// The chunks of a stream, in all `movi` and `rec ` lists. Damaged ones are skipped.
#[derive(Clone)]
struct AudioChunks {
    bytes: Arc<Bytes>,
    offset: u64,
    end: u64,
    /// Stream number in two digits, then `wb`.
    name: [u8; 4],
}

impl AudioChunks {
    /// The chunk at `offset`, unless its name or its length shows that it is damaged. A list may have any length, and the last
    /// chunk of the stream may be cut off.
    fn chunk_at(&self, offset: u64) -> Option<Chunk> {
        let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b' ';
        let chunk = chunk_at(&self.bytes, offset, Style::Riff)?;
        let may_exceed = [b"RIFF", b"LIST", &self.name].contains(&&chunk.name);
        let is_intact = chunk.name.iter().all(is_letter) && (may_exceed || chunk.end() <= self.end);
        is_intact.then_some(chunk)
    }

    /// Offset of the first chunk of the stream at or after `from` that another chunk or the end follows.
    fn find_chunk(&self, from: u64) -> Option<u64> {
        (from..self.end).find(|offset| {
            let chunk = self.chunk_at(*offset);
            chunk.is_some_and(|chunk| {
                let next = chunk.next(&self.bytes, Style::Riff);
                chunk.name == self.name && (next == self.end || self.chunk_at(next).is_some())
            })
        })
    }
}

impl Pieces for AudioChunks {
    fn next(&mut self) -> Option<Piece> {
        while self.offset < self.end {
            let Some(chunk) = self.chunk_at(self.offset) else {
                self.offset = self.find_chunk(self.offset + 1)?;
                continue;
            };
            let form = self.bytes.array_at(chunk.start);
            self.offset = match &chunk.name {
                b"RIFF" => chunk.start + 4,
                b"LIST"
                    if matches!(
                        form,
                        Some([b'm', b'o', b'v', b'i'] | [b'r', b'e', b'c', b' '])
                    ) =>
                {
                    chunk.start + 4
                }
                _ => chunk.next(&self.bytes, Style::Riff),
            };
            if chunk.name == self.name {
                return Some(Piece::File(chunk.start..chunk.end().min(self.end)));
            }
        }
        None
    }
}
