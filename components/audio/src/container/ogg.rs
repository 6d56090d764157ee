//! Ogg (RFC 3533): names of codecs that symphonia does not support, and Vorbis headers that it panics at.

use std::collections::BTreeMap;
use std::ops::Range;

use symphonia::core::checksum::Crc32;
use symphonia::core::io::Monitor;

use crate::codec::vorbis;
use crate::error::damaged;
use crate::{Bytes, Error};

/// Maximum streams read; a film has two or three.
const MAX_STREAMS: usize = 64;

/// Maximum bytes of a setup header. Those of real encoders have a few KiB.
const MAX_SETUP: usize = 1 << 20;

/// Flag of a page that starts with the rest of a packet.
const CONTINUED: u8 = 1;

/// Flag of the first page of a stream. First pages precede all others.
const FIRST: u8 = 2;

/// Bytes of the header of a page, up to its table of segments, and where in it the checksum stands.
const HEADER: u64 = 27;
const CHECKSUM_AT: usize = 22;

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

/// Checks Vorbis setup headers, which symphonia parses while demultiplexing.
pub(crate) fn check(bytes: &Bytes, range: Range<u64>) -> Result<(), Error> {
    // Setup headers that continue on another page, by stream.
    let mut unfinished = BTreeMap::new();
    let mut offset = range.start;
    while let Some((page, next)) = Page::read(bytes, offset..range.end) {
        let at = std::mem::replace(&mut offset, next);
        let Some(page) = page else {
            // symphonia reads nothing after a damaged first page.
            if at == range.start {
                break;
            }
            continue;
        };
        let mut packet = match unfinished.remove(&page.stream) {
            Some(packet) if page.flags & CONTINUED != 0 => packet,
            _ => Vec::new(),
        };
        let mut content = &page.content[..];
        for len in page.segments {
            let (segment, behind) = content.split_at(usize::from(len));
            content = behind;
            packet.extend(segment);
            if len < 255 {
                if packet.starts_with(&vorbis::SETUP) {
                    vorbis::check_codebooks(&packet)?;
                }
                packet.clear();
            }
        }
        if packet.starts_with(&vorbis::SETUP) {
            if packet.len() > MAX_SETUP {
                return Err(damaged("the Vorbis setup header does not end"));
            }
            unfinished.insert(page.stream, packet);
        }
    }
    Ok(())
}

/// A page.
struct Page {
    flags: u8,
    stream: [u8; 4],
    /// Lengths. A segment of 255 bytes continues in the next one.
    segments: Vec<u8>,
    content: Vec<u8>,
}

impl Page {
    /// Returns the page at the start of the range if its checksum is right, and the offset at which symphonia looks for the next one;
    /// `None` at the end.
    fn read(bytes: &Bytes, range: Range<u64>) -> Option<(Option<Self>, u64)> {
        let start = range.start;
        let mut header: [u8; HEADER as usize] = bytes.array_at(start)?;
        if !header.starts_with(b"OggS") {
            return Some((None, start + 1));
        }
        let [_, _, _, _, version, flags, ..] = header;
        if version != 0 || flags & !7 != 0 {
            return Some((None, start + HEADER));
        }
        let table = start + HEADER..start + HEADER + u64::from(header[26]);
        let segments = bytes.slice(table.clone());
        let len: u64 = segments.iter().map(|len| u64::from(*len)).sum();
        let end = table.end + len;
        if end > range.end {
            return None;
        }
        let content = bytes.slice(table.end..end);
        let stated = header[CHECKSUM_AT..].first_chunk().copied()?;
        header[CHECKSUM_AT..CHECKSUM_AT + 4].fill(0);
        let mut checksum = Crc32::new(0);
        for part in [&header[..], &segments, &content] {
            checksum.process_buf_bytes(part);
        }
        if checksum.crc() != u32::from_le_bytes(stated) {
            return Some((None, start + 4));
        }
        let stream = header[14..].first_chunk().copied()?;
        let page = Self {
            flags,
            stream,
            segments,
            content,
        };
        Some((Some(page), end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of one stream whose segments have these lengths.
    fn page(flags: u8, segments: &[u8], content: &[u8]) -> Vec<u8> {
        let header = [&b"OggS\0"[..], &[flags], &[0; 20], &[segments.len() as u8]].concat();
        let mut page = [&header, segments, content].concat();
        let mut checksum = Crc32::new(0);
        checksum.process_buf_bytes(&page);
        page[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.crc().to_le_bytes());
        page
    }

    fn checked(pages: &[Vec<u8>]) -> Result<(), Error> {
        let mut bytes = Bytes::new();
        bytes.append(pages.concat());
        let range = 0..bytes.len();
        check(&bytes, range)
    }

    #[test]
    fn a_setup_header_is_found_wherever_it_lies() {
        // One codebook with two codes of one bit; in the first, 32 dimensions whose lookup values are said to follow.
        let bad = b"\x05vorbis\0BCV\x20\0\x02\0\0\0\x10\0";
        let good = b"\x05vorbis\0BCV\x01\0\x02\0\0\0\0\0";
        let first = page(FIRST, &[3], b"any");
        assert!(checked(&[first.clone(), page(0, &[good.len() as u8], good)]).is_ok());
        assert!(checked(&[first.clone(), page(0, &[bad.len() as u8], bad)]).is_err());
        // In two pages of a stream, with a damaged one between them.
        let mut long = bad.to_vec();
        long.resize(300, 0);
        let mut damaged = page(CONTINUED, &[1], b"x");
        damaged[27] ^= 1;
        let pages = [
            first,
            page(0, &[255], &long[..255]),
            damaged,
            page(CONTINUED, &[45], &long[255..]),
        ];
        assert!(checked(&pages).is_err());
        // In pages without end.
        let segment = page(CONTINUED, &[255], &[0; 255]);
        let mut pages = vec![page(FIRST, &[3], b"any"), page(0, &[255], &long[..255])];
        pages.resize(MAX_SETUP / 255 + 3, segment);
        assert!(checked(&pages).is_err());
    }
}
