//! Boundaries between concatenated files (`cat a.mp3 b.mp3`).
//!
//! Ogg has chaining of its own, and ADTS has no header with a length; their readers continue to the end. In MP3, FLAC and WAV
//! a header states the length, and the rest would be lost: these are read part by part.

use std::ops::Range;

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_MP3;
use symphonia::core::formats::well_known::{FORMAT_ID_MP1, FORMAT_ID_MP2, FORMAT_ID_MP3};

use crate::Bytes;
use crate::container::{Opened, joint_after};

/// Bytes searched at a time.
const SEARCH_BLOCK: usize = 64 * 1024;

/// The start of a FLAC stream: its marker and the header of its first block, a STREAMINFO of 34 bytes
/// (RFC 9639, section 8), without the last-block flag.
const FLAC_START: [u8; 8] = *b"fLaC\0\0\0\x22";
const FLAC_LAST_BLOCK: u8 = 0x80;

/// The part that starts at `start`: up to the next one for FLAC and WAV, up to the end for all others.
///
/// FLAC frames do not state their length, so symphonia would treat the next part's header as the end of the last frame.
pub(crate) fn part_at(bytes: &Bytes, start: u64) -> Range<u64> {
    let end = if is_flac_at(bytes, start) {
        find_flac(bytes, start + FLAC_START.len() as u64)
    } else {
        joint_after(bytes, start)
    };
    start..end.unwrap_or(bytes.len())
}

/// End of the first track of an MP3 file as stated in its header, in samples, including the encoder's padding; symphonia
/// reads past it, but trims what it reads. `None` for and inside other containers.
pub(crate) fn stated_end(opened: &Opened) -> Option<i64> {
    let frames = [FORMAT_ID_MP1, FORMAT_ID_MP2, FORMAT_ID_MP3];
    if !opened.is_direct || !frames.contains(&opened.reader.format_info().format) {
        return None;
    }
    let track = opened.reader.tracks().first()?;
    let samples = track
        .num_frames?
        .saturating_add(u64::from(track.padding.unwrap_or(0)));
    Some(i64::try_from(samples).unwrap_or(i64::MAX))
}

/// Whether the decoder of one part can continue with the next. For MP3 it should: without a header, symphonia estimates the
/// length, and an estimate that is too short splits the file where frames refer back to previous ones.
pub(crate) fn continues(before: &AudioCodecParameters, next: &AudioCodecParameters) -> bool {
    next.codec == CODEC_ID_MP3
        && before.codec == next.codec
        && before.sample_rate == next.sample_rate
        && before.channels == next.channels
}

fn is_flac_at(bytes: &Bytes, offset: u64) -> bool {
    let mut window = [0; FLAC_START.len()];
    bytes.read_at(offset, &mut window) == window.len() && is_flac_start(&window)
}

fn is_flac_start(window: &[u8]) -> bool {
    window[..4] == FLAC_START[..4]
        && window[4] & !FLAC_LAST_BLOCK == FLAC_START[4]
        && window[5..] == FLAC_START[5..]
}

/// Offset of the first FLAC stream that starts at or after `offset`.
fn find_flac(bytes: &Bytes, mut offset: u64) -> Option<u64> {
    let mut block = vec![0; SEARCH_BLOCK];
    loop {
        let read = bytes.read_at(offset, &mut block);
        let found = block[..read]
            .windows(FLAC_START.len())
            .position(is_flac_start);
        if let Some(found) = found {
            return Some(offset + found as u64);
        }
        if read < block.len() {
            return None;
        }
        // A start in the block's last bytes is found in the next block.
        offset += (read - FLAC_START.len() + 1) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flac_stream_is_found_at_any_offset() {
        for at in [8, 100, SEARCH_BLOCK - 3, SEARCH_BLOCK, 3 * SEARCH_BLOCK + 7] {
            let mut content = FLAC_START.to_vec();
            content.resize(at, 0);
            content.extend(*b"fLaC\x80\0\0\x22");
            let mut bytes = Bytes::new();
            bytes.append(content);
            assert_eq!(part_at(&bytes, 0), 0..at as u64);
            assert_eq!(part_at(&bytes, at as u64), at as u64..bytes.len());
        }
    }
}
