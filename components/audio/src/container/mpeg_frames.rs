//! Frames of MPEG audio (layers 1, 2, 3) and ADTS without a container.
//!
//! A frame starts with eleven or twelve one bits, which occur in any file. Several consecutive frames of one kind occur only in a
//! file that consists of them.

use std::ops::Range;

use super::{mpeg_ts, signature};
use crate::Bytes;

/// Consecutive frames required to identify audio after junk.
const FRAMES: usize = 4;

/// Bytes searched at a time.
const SEARCH_BLOCK: usize = 64 * 1024;

/// kbit/s by layer, for MPEG 1, and for MPEG 2 and 2.5 (ISO/IEC 11172-3, 2.4.2.3; ISO/IEC 13818-3, 2.4.2.3).
const BIT_RATES: [[u32; 15]; 5] = [
    [
        0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448,
    ],
    [
        0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384,
    ],
    [
        0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ],
    [
        0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256,
    ],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// Header fields that determine the position and kind of the next frame.
struct Frame {
    /// The bits that all frames of a file share: version, layer, sample rate.
    kind: u32,
    /// Bytes to the next frame; `None` for free format.
    len: Option<u64>,
}

impl Frame {
    fn at(bytes: &Bytes, offset: u64) -> Option<Self> {
        let header: [u8; 4] = bytes.array_at(offset)?;
        let word = u32::from_be_bytes(header);
        if word >> 21 != 0x7ff {
            return None;
        }
        let (version, layer) = ((word >> 19) & 3, (word >> 17) & 3);
        if layer == 0 {
            return Self::adts(bytes, offset, word);
        }
        let (bit_rate, rate) = ((word >> 12) & 15, (word >> 10) & 3);
        if version == 1 || bit_rate == 15 || rate == 3 {
            return None;
        }
        let is_mpeg_1 = version == 3;
        let sample_rate = [44_100, 48_000, 32_000][rate as usize]
            / match version {
                3 => 1,
                2 => 2,
                _ => 4,
            };
        let table = match (is_mpeg_1, layer) {
            (true, 3) => 0,
            (true, 2) => 1,
            (true, _) => 2,
            (false, 3) => 3,
            (false, _) => 4,
        };
        let bits = 1000 * BIT_RATES[table][bit_rate as usize];
        let padding = (word >> 9) & 1;
        let len = match layer {
            3 => (12 * bits / sample_rate + padding) * 4,
            1 if !is_mpeg_1 => 72 * bits / sample_rate + padding,
            _ => 144 * bits / sample_rate + padding,
        };
        Some(Self {
            kind: word & 0xfffe_0c00,
            len: (bit_rate > 0).then_some(u64::from(len)),
        })
    }

    /// ISO/IEC 13818-7, 6.2.
    fn adts(bytes: &Bytes, offset: u64, word: u32) -> Option<Self> {
        let [a, b, c] = bytes.array_at(offset + 3)?;
        let len = u64::from(a & 3) << 11 | u64::from(b) << 3 | u64::from(c >> 5);
        let has_twelve_ones = word >> 20 == 0xfff;
        (has_twelve_ones && (word >> 10) & 15 < 13 && len > 7).then_some(Self {
            kind: word & 0xfffe_fdc0,
            len: Some(len),
        })
    }
}

/// Offset of the first frame, or of a container with a long signature; at the start, or after at most `max_junk` bytes of junk.
pub(crate) fn find(bytes: &Bytes, range: Range<u64>, max_junk: u64) -> Option<u64> {
    if follow(bytes, range.clone(), 2) {
        return Some(range.start);
    }
    let mut block = vec![0; SEARCH_BLOCK];
    let limit = range.end.min(range.start.saturating_add(max_junk));
    let mut offset = range.start + 1;
    while offset < limit {
        // Fits into usize: at most the block's length.
        let len = (limit - offset).min(SEARCH_BLOCK as u64) as usize;
        let read = bytes.read_at(offset, &mut block[..len]);
        for (at, byte) in (offset..).zip(&block[..read]) {
            let found = match byte {
                0xff => follow(bytes, at..range.end, FRAMES),
                // A transport stream that was cut within a packet.
                0x47 if mpeg_ts::is_long_at(bytes, at) => true,
                0x47 if at - range.start > 4 && mpeg_ts::is_long_at(bytes, at - 4) => {
                    return Some(at - 4);
                }
                b'R' | b'r' | b'F' | b'f' | b'O' | b'c' | b'.' | 0x1a | 0 => {
                    signature::long_signature_at(bytes, at).is_some()
                }
                _ => false,
            };
            if found {
                return Some(at);
            }
        }
        if read < len {
            return None;
        }
        offset += read as u64;
    }
    None
}

/// Whether `count` frames of one kind follow each other from the start of the range, or more than half as many up to its end.
fn follow(bytes: &Bytes, range: Range<u64>, count: usize) -> bool {
    let mut kind = None;
    let mut offset = range.start;
    for seen in 0..count {
        if offset >= range.end || is_tag(bytes, offset) {
            return seen > count / 2;
        }
        let Some(Frame {
            kind: next,
            len: Some(len),
        }) = Frame::at(bytes, offset)
        else {
            return false;
        };
        if *kind.get_or_insert(next) != next {
            return false;
        }
        offset += len;
    }
    true
}

/// Name of a format that symphonia does not decode, or decodes incorrectly: AAC other than LC, and mono layer 2 at a bit rate that
/// the standard reserves for stereo (ISO/IEC 11172-3, 2.4.2.3), which ffmpeg writes by default.
pub(crate) fn refused(header: [u8; 4]) -> Option<&'static str> {
    /// 224, 256, 320 and 384 kbit/s.
    const STEREO_ONLY: [u32; 4] = [11, 12, 13, 14];
    let word = u32::from_be_bytes(header);
    if word & 0xfff6_0000 == 0xfff0_0000 {
        return match (word >> 14) & 3 {
            0 => Some("AAC Main"),
            2 => Some("AAC SSR"),
            3 => Some("AAC LTP"),
            _ => None,
        };
    }
    let is_mpeg_1_layer_2 = word & 0xfffe_0000 == 0xfffc_0000;
    let is_mono = word & 0xc0 == 0xc0;
    (is_mpeg_1_layer_2 && is_mono && STEREO_ONLY.contains(&((word >> 12) & 15)))
        .then_some("mono MP2 above 192 kbit/s")
}

/// Whether free-format frames start at `offset`. Their headers do not state a length, so two more must follow at equal
/// distances.
pub(crate) fn is_free_format(bytes: &Bytes, offset: u64) -> bool {
    /// Maximum bytes of a frame: 640 kbit/s at 8 kHz, more than encoders write.
    const LONGEST: u64 = 5_760;
    let free = |at| match Frame::at(bytes, at) {
        Some(Frame { kind, len: None }) => Some(kind),
        _ => None,
    };
    let Some(kind) = free(offset) else {
        return false;
    };
    (24..LONGEST).any(|distance| {
        let mut third = offset + 2 * distance - 1..=offset + 2 * distance + 1;
        free(offset + distance) == Some(kind) && third.any(|at| free(at) == Some(kind))
    })
}

/// Whether a tag, which may follow the last frame, starts at `offset`.
fn is_tag(bytes: &Bytes, offset: u64) -> bool {
    let mut start = [0; 8];
    let read = bytes.read_at(offset, &mut start);
    [&b"TAG"[..], b"APETAGEX", b"LYRICSBE", b"ID3"]
        .iter()
        .any(|mark| start[..read].starts_with(mark))
}
