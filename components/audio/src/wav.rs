//! The lengths in the header of a WAV file, put right where they cannot be true.
//!
//! Whoever writes to a pipe does not know them beforehand: ffmpeg writes the largest number, others some large one, or 0; and
//! a recorder that was cut off never came to fill them in. Symphonia takes every length but the largest at its word.
//! A data chunk that is shorter than the file is believed: other chunks may follow it.

use crate::Bytes;

/// Length that means: up to the end.
const UNKNOWN: u32 = u32::MAX;

/// Bytes of a chunk's header: name and length.
const CHUNK_HEADER: u64 = 8;

/// Bytes before the first chunk within the RIFF chunk: its header, and what form it has.
const FILE_HEADER: u64 = CHUNK_HEADER + 4;

/// Set the length of the data chunk to what there is, where it states more, or states 0 without being empty; and that of
/// the RIFF chunk around it to unknown, where it would be too short for the data. Of joined files, the last is mended: that
/// another follows where one ends proves the lengths of the one. Does nothing to other files.
pub(crate) fn mend_lengths(bytes: &mut Bytes) {
    let mut file = 0;
    while let Some(next) = joint_behind(bytes, file) {
        file = next;
    }
    let Some(riff_len) = riff_at(bytes, file) else {
        return;
    };
    let riff_end = file + CHUNK_HEADER + u64::from(riff_len);
    let mut offset = file + FILE_HEADER;
    while let Some((name, len)) = chunk_at(bytes, offset) {
        let start = offset + CHUNK_HEADER;
        if name != *b"data" {
            // Chunks begin at even offsets.
            offset = start + u64::from(len).next_multiple_of(2);
            continue;
        }
        let rest = bytes.len() - start;
        let never_set = len == 0 && (riff_end <= start || riff_end > bytes.len());
        let mut data_end = start + u64::from(len);
        if never_set || data_end > bytes.len() {
            data_end = bytes.len();
            let rest = u32::try_from(rest).unwrap_or(UNKNOWN);
            bytes.overwrite(offset + 4, &rest.to_le_bytes());
        }
        if riff_end < data_end {
            bytes.overwrite(file + 4, &UNKNOWN.to_le_bytes());
        }
        return;
    }
}

/// Where the WAV file ends that begins at `start`, if another is joined to it there.
pub(crate) fn joint_behind(bytes: &Bytes, start: u64) -> Option<u64> {
    let len = u64::from(riff_at(bytes, start)?);
    let end = start + CHUNK_HEADER + len.next_multiple_of(2);
    riff_at(bytes, end).map(|_| end)
}

/// Length of the RIFF chunk at `offset`, if a WAV file begins there.
fn riff_at(bytes: &Bytes, offset: u64) -> Option<u32> {
    let (name, len) = chunk_at(bytes, offset)?;
    let mut form = [0; 4];
    let read = bytes.read_at(offset + CHUNK_HEADER, &mut form);
    (name == *b"RIFF" && read == form.len() && form == *b"WAVE").then_some(len)
}

/// Name and length of the chunk at `offset`, if its header is there.
fn chunk_at(bytes: &Bytes, offset: u64) -> Option<([u8; 4], u32)> {
    let mut header = [0; CHUNK_HEADER as usize];
    if bytes.read_at(offset, &mut header) < header.len() {
        return None;
    }
    let [a, b, c, d, len @ ..] = header;
    Some(([a, b, c, d], u32::from_le_bytes(len)))
}
