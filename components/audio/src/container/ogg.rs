//! Names of Ogg codecs (RFC 3533) that symphonia does not support.

use crate::Bytes;

/// Maximum streams read; a film has two or three.
const MAX_STREAMS: usize = 64;

/// Flag of the first page of a stream. First pages precede all others.
const FIRST: u8 = 2;

/// First bytes of a stream's first packet, and the codec's name.
const NAMES: [(&[u8], &str); 11] = [
    (b"Speex   ", "Speex"),
    (b"PCM     ", "OggPCM"),
    (b"CELT    ", "CELT"),
    (b"\x00PCM", "OggPCM"),
    (b"\x80theora", "Theora without sound"),
    (b"\x80kate", "Kate without sound"),
    (b"BBCD\0", "Dirac without sound"),
    (b"OVP80", "VP8 without sound"),
    (b"YUV4MPEG", "video without sound"),
    (b"CMML", "CMML without sound"),
    (b"UVS ", "video without sound"),
];

/// First bytes of streams that symphonia reads.
const KNOWN: [&[u8]; 3] = [b"\x01vorbis", b"\x7fFLAC", b"OpusHead"];

/// The name of the first known codec, unless symphonia reads one of the streams.
pub(crate) fn refused(bytes: &Bytes, start: u64) -> Option<&'static str> {
    let mut named = None;
    let mut offset = start;
    for _ in 0..MAX_STREAMS {
        let Some(header) = bytes.array_at::<27>(offset) else {
            break;
        };
        if !header.starts_with(b"OggS") || header[5] & FIRST == 0 {
            break;
        }
        let segments = u64::from(header[26]);
        let table = bytes.slice(offset + 27..offset + 27 + segments);
        let len: u64 = table.iter().map(|len| u64::from(*len)).sum();
        let content = offset + 27 + segments;
        let packet = bytes.slice(content..content + len.min(16));
        if KNOWN.iter().any(|mark| packet.starts_with(mark)) {
            return None;
        }
        let name = NAMES.iter().find(|(mark, _)| packet.starts_with(mark));
        named = named.or(name.map(|(_, name)| *name));
        offset = content + len;
    }
    named
}
