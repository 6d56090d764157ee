//! WAV and its variants: RIFF, big-endian RIFX, RF64 and BW64 with 64-bit lengths, and Wave64.
//!
//! A program that writes to a pipe does not know the lengths in advance: ffmpeg writes the maximum value, others a large one or
//! 0; and an interrupted recorder never fills them in. So an invalid length means the rest of the file. A `data` chunk
//! that is shorter than the file is trusted, since other chunks may follow it.

use std::ops::Range;

use super::adts;
use super::chunks::{Chunk, Style, chunk_at, chunks};
use super::content::{Coding, Content};
use super::wave_format::{MAX_LEN, WaveFormat};
use crate::error::{damaged, unsupported};
use crate::payload::Single;
use crate::{Bytes, Error};

/// Bytes before the first chunk: the header of the RIFF chunk, and its form type.
const FILE_HEADER: u64 = 12;

/// The same for Wave64.
const WAVE64_HEADER: u64 = 40;

/// GUID of `riff`, at the start of a Wave64 file.
pub(crate) const WAVE64_START: [u8; 16] = *b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00";

/// Bytes of samples inspected to detect how narrow samples are aligned.
const INSPECTED_BYTES: u64 = 1024 * 1024;

/// Whether a WAV file of any variant starts at `offset`.
pub(crate) fn is_at(bytes: &Bytes, offset: u64) -> bool {
    let Some(header) = bytes.array_at::<12>(offset) else {
        return false;
    };
    let is_riff = [b"RIFF", b"RIFX", b"RF64", b"BW64"]
        .iter()
        .any(|name| header.starts_with(*name));
    is_riff && header.ends_with(b"WAVE") || bytes.array_at(offset) == Some(WAVE64_START)
}

/// The audio of the file.
pub(crate) fn open(bytes: &Bytes, range: Range<u64>) -> Result<Content, Error> {
    let (style, header) = match bytes.array_at::<4>(range.start) {
        Some(name) if name == *b"RIFX" => (Style::Iff, FILE_HEADER),
        Some(name) if name == *b"riff" => (Style::Wave64, WAVE64_HEADER),
        _ => (Style::Riff, FILE_HEADER),
    };
    let mut format = None;
    let mut data = None;
    let mut long_data = None;
    let first = range.start + header;
    for chunk in chunks(bytes, first, range.end, style) {
        match &chunk.name {
            b"fmt " => {
                let content = bytes.slice(chunk.start..chunk.end().min(chunk.start + MAX_LEN));
                format = WaveFormat::read(&content, style == Style::Iff);
            }
            // RF64 (EBU Tech 3306): 64-bit lengths of the file and the data.
            b"ds64" => long_data = bytes.array_at(chunk.start + 8).map(u64::from_le_bytes),
            b"data" => {
                let chunk = match long_data {
                    Some(len) if chunk.len == u64::from(u32::MAX) => Chunk { len, ..chunk },
                    _ => chunk,
                };
                data = Some(data_range(bytes, &range, style, chunk));
            }
            _ => {}
        }
        if format.is_some() && data.is_some() {
            break;
        }
    }
    let Some(format) = format else {
        return Err(damaged("the WAV file has no format chunk"));
    };
    let Some(data) = data else {
        return Err(damaged("the WAV file has no data chunk"));
    };
    let mut coding = format.coding("wav", || adts::is_adts(bytes, data.start))?;
    if let (Some(bits), Coding::Blocks(blocks)) = (format.narrow_bits(), &mut coding) {
        match narrow_samples(bytes, &data, style == Style::Iff) {
            Narrow::High => {}
            Narrow::Low => blocks.low_bits = Some(bits),
            Narrow::Float => {
                let name = format!("the codec {bits}-bit PCM in floating point in wav");
                return Err(unsupported(&name));
            }
        }
    }
    Ok(Content {
        container: if style == Style::Wave64 { "w64" } else { "wav" },
        coding,
        len: Some(data.end - data.start),
        pieces: Box::new(Single::new(data)),
    })
}

/// Range of the samples, even if the lengths in the header are wrong.
fn data_range(bytes: &Bytes, file: &Range<u64>, style: Style, data: Chunk) -> Range<u64> {
    let riff_end = match style {
        Style::Wave64 => u64::MAX,
        _ => chunk_at(bytes, file.start, style).map_or(0, |riff| riff.end()),
    };
    let is_name = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    let is_followed = chunk_at(bytes, data.start, style)
        .is_some_and(|next| next.name.iter().all(is_name) && next.end() <= file.end);
    let never_set =
        data.len == 0 && (riff_end <= data.start || riff_end > file.end || !is_followed);
    let end = if never_set {
        file.end
    } else {
        data.end().min(file.end)
    };
    data.start.min(end)..end
}

/// Alignment of samples of fewer than 32 bits in four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Narrow {
    /// In the high bits, as the format requires.
    High,
    /// In the low bits.
    Low,
    /// Floating point in the range of such integers, which Cool Edit wrote with the format tag of PCM.
    Float,
}

fn narrow_samples(bytes: &Bytes, data: &Range<u64>, big_endian: bool) -> Narrow {
    /// Magnitudes of floats in the range of 16 or 24 bits. Small integers interpreted as floats are below it, and negative
    /// ones are NaN.
    const FLOATS: Range<f32> = 1e-6..16_777_216.0;
    let end = data.end.min(data.start + INSPECTED_BYTES);
    let content = bytes.slice(data.start..end);
    let samples = || {
        content.chunks_exact(4).map(|four| {
            let four = [four[0], four[1], four[2], four[3]];
            if big_endian {
                u32::from_be_bytes(four)
            } else {
                u32::from_le_bytes(four)
            }
        })
    };
    let mut audible = samples().filter(|sample| *sample != 0).peekable();
    if audible.peek().is_none() {
        Narrow::High
    } else if audible.all(|sample| FLOATS.contains(&f32::from_bits(sample).abs())) {
        Narrow::Float
    } else if samples().any(|sample| sample & 0xff != 0) {
        Narrow::Low
    } else {
        Narrow::High
    }
}

/// End of the WAV file at `start`, if another one follows it there.
pub(crate) fn joint_after(bytes: &Bytes, start: u64) -> Option<u64> {
    let len = riff_at(bytes, start)?;
    let end = start + 8 + len.next_multiple_of(2);
    riff_at(bytes, end).map(|_| end)
}

/// Length of the RIFF chunk at `offset`, if a WAV file starts there.
fn riff_at(bytes: &Bytes, offset: u64) -> Option<u64> {
    let riff = chunk_at(bytes, offset, Style::Riff)?;
    let form: [u8; 4] = bytes.array_at(riff.start)?;
    (riff.name == *b"RIFF" && form == *b"WAVE").then_some(riff.len)
}
