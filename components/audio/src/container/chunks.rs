//! The chunks of RIFF (WAV, AVI), IFF (AIFF) and Wave64: name, length, content.

use crate::Bytes;

/// Format of a chunk header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A four-letter name, a 32-bit little-endian length; chunks start at even offsets.
    Riff,
    /// The same, big-endian: IFF and RIFX.
    Iff,
    /// A GUID, a 64-bit length that includes the header; chunks start at multiples of eight.
    Wave64,
}

/// The bytes after the four letters in Wave64 GUIDs, except `riff`.
const WAVE64_NAME: [u8; 12] = *b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a";

/// Names by which [`Chunk::next`] detects whether a chunk was padded.
const KNOWN: [&[u8; 4]; 12] = [
    b"data", b"fmt ", b"fact", b"LIST", b"bext", b"JUNK", b"cue ", b"SSND", b"COMM", b"id3 ",
    b"PEAK", b"smpl",
];

/// A chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// For Wave64, the first four bytes of the GUID.
    pub name: [u8; 4],
    /// Offset of its content.
    pub start: u64,
    /// Length of its content in bytes, as stated.
    pub len: u64,
}

/// The chunk whose header is at `offset`, if there is one.
pub(crate) fn chunk_at(bytes: &Bytes, offset: u64, style: Style) -> Option<Chunk> {
    if style == Style::Wave64 {
        let header: [u8; 24] = bytes.array_at(offset)?;
        let (name, len) = (*header.first_chunk()?, *header.last_chunk()?);
        let stated = u64::from_le_bytes(len);
        return (header[4..16] == WAVE64_NAME).then_some(Chunk {
            name,
            start: offset.checked_add(24)?,
            len: stated.saturating_sub(24),
        });
    }
    let [a, b, c, d, len @ ..] = bytes.array_at::<8>(offset)?;
    let len = match style {
        Style::Iff => u32::from_be_bytes(len),
        _ => u32::from_le_bytes(len),
    };
    Some(Chunk {
        name: [a, b, c, d],
        start: offset.checked_add(8)?,
        len: u64::from(len),
    })
}

impl Chunk {
    /// End of its content, as stated.
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// Offset of the next chunk's header. Some writers do not pad chunks of odd length, so a known name at the unpadded offset
    /// overrides the rule.
    pub(crate) fn next(&self, bytes: &Bytes, style: Style) -> u64 {
        let end = self.end();
        match style {
            Style::Wave64 => end.checked_next_multiple_of(8).unwrap_or(u64::MAX),
            _ if self.len.is_multiple_of(2) => end,
            _ => {
                let is_known = |offset| {
                    bytes
                        .array_at::<4>(offset)
                        .is_some_and(|name| KNOWN.contains(&&name))
                };
                let padded = end.saturating_add(1);
                if !is_known(padded) && is_known(end) {
                    end
                } else {
                    padded
                }
            }
        }
    }
}

/// The chunks from `offset` on.
pub(crate) fn chunks(
    bytes: &Bytes,
    offset: u64,
    end: u64,
    style: Style,
) -> impl Iterator<Item = Chunk> + '_ {
    let mut offset = offset;
    std::iter::from_fn(move || {
        if offset >= end {
            return None;
        }
        let chunk = chunk_at(bytes, offset, style)?;
        offset = chunk.next(bytes, style);
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_of_odd_length_may_be_padded_or_not() {
        for padding in [&b"\0"[..], b""] {
            let mut bytes = Bytes::new();
            let content = [b"bext\x03\0\0\0abc", padding, b"data\x01\0\0\0x"].concat();
            let end = content.len() as u64;
            bytes.append(content);
            let names: Vec<_> = chunks(&bytes, 0, end, Style::Riff)
                .map(|chunk| chunk.name)
                .collect();
            assert_eq!(names, [*b"bext", *b"data"]);
        }
    }
}
