//! Tags before the audio: ID3v2 and APE. They are skipped because a cover picture could look like an MPEG frame or a container.

use crate::Bytes;

/// Maximum consecutive tags skipped; a file has one, or a few left by editors.
const MAX_TAGS: usize = 16;

/// End of the tags that start at `offset`; `offset` if there are none.
pub(crate) fn skip(bytes: &Bytes, mut offset: u64) -> u64 {
    for _ in 0..MAX_TAGS {
        let Some(len) = tag_at(bytes, offset) else {
            break;
        };
        offset += len;
    }
    offset
}

/// Length in bytes of the tag at `offset`, including the header.
fn tag_at(bytes: &Bytes, offset: u64) -> Option<u64> {
    // ID3v2 (id3.org, 3.1): version, flags, and the length as four times seven bits.
    if let Some(header) = bytes.array_at::<10>(offset)
        && header.starts_with(b"ID3")
        && header[3] < 0xff
        && header[6..].iter().all(|byte| byte & 0x80 == 0)
    {
        let len = header[6..]
            .iter()
            .fold(0, |len, byte| len << 7 | u64::from(*byte));
        let footer = if header[5] & 0x10 == 0 { 0 } else { 10 };
        return Some(10 + len + footer);
    }
    // APE: version, then length of items and footer.
    let header: [u8; 16] = bytes.array_at(offset)?;
    let (mark, numbers) = header.split_first_chunk::<8>()?;
    let len = u32::from_le_bytes(*numbers.last_chunk()?);
    (mark == b"APETAGEX").then_some(32 + u64::from(len))
}
