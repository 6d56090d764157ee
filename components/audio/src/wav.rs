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

/// Set the length of the data chunk to what there is, where it states more, or states 0 without being empty; and that of
/// the RIFF chunk around it to unknown, where it would be too short for the data. Does nothing to other files.
pub(crate) fn mend_lengths(bytes: &mut Bytes) {
    let riff_len = match chunk_at(bytes, 0) {
        Some((name, len)) if name == *b"RIFF" => len,
        _ => return,
    };
    let mut form = [0; 4];
    if bytes.read_at(CHUNK_HEADER, &mut form) < form.len() || form != *b"WAVE" {
        return;
    }
    let riff_end = CHUNK_HEADER + u64::from(riff_len);
    let mut offset = CHUNK_HEADER + form.len() as u64;
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
            bytes.overwrite(4, &UNKNOWN.to_le_bytes());
        }
        return;
    }
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
