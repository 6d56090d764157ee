//! PES packets, in MPEG transport and program streams (ISO/IEC 13818-1, 2.4.3.6; for MPEG-1 ISO/IEC 11172-1, 2.4.3.3).

use crate::Bytes;

/// Stream IDs of MPEG audio, including AAC.
pub(crate) const AUDIO: std::ops::RangeInclusive<u8> = 0xc0..=0xdf;

/// Maximum stuffing bytes before the header, in MPEG-1.
const MAX_STUFFING: u64 = 16;

/// Length of the header of the packet at `offset`, including the start code; `None` if there is no packet.
pub(crate) fn header_len(bytes: &Bytes, offset: u64) -> Option<u64> {
    let start: [u8; 9] = bytes.array_at(offset)?;
    if start[..3] != [0, 0, 1] {
        return None;
    }
    if start[6] & 0xc0 == 0x80 {
        return Some(9 + u64::from(start[8]));
    }
    let byte = |at| bytes.array_at(offset + at).map(|[byte]| byte);
    let mut at = 6;
    while byte(at)? == 0xff && at < 6 + MAX_STUFFING {
        at += 1;
    }
    if byte(at)? & 0xc0 == 0x40 {
        at += 2;
    }
    Some(
        at + match byte(at)? >> 4 {
            2 => 5,
            3 => 10,
            _ => 1,
        },
    )
}
