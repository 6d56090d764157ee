//! Parts of Matroska (RFC 9559) that symphonia does not read: content encodings of tracks, and names of unknown codecs.

use std::ops::Range;

use super::wave_format::WaveFormat;
use crate::Bytes;

/// Maximum bytes of a frame after decompression. The largest real ones, FLAC, have a tenth of this.
const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;

/// Maximum tracks read.
const MAX_TRACKS: usize = 256;

/// Maximum bytes of a stripped header, and of codec data read.
const MAX_VALUE_BYTES: u64 = 4096;

/// Element IDs (RFC 9559).
const SEGMENT: u32 = 0x1853_8067;
const TRACKS: u32 = 0x1654_ae6b;
const CLUSTER: u32 = 0x1f43_b675;
const TRACK_ENTRY: u32 = 0xae;
const TRACK_NUMBER: u32 = 0xd7;
const TRACK_TYPE: u32 = 0x83;
const CODEC_ID: u32 = 0x86;
const CODEC_PRIVATE: u32 = 0x63a2;
const AUDIO: u32 = 0xe1;
const BIT_DEPTH: u32 = 0x6264;
const CONTENT_ENCODINGS: u32 = 0x6d80;
const CONTENT_ENCODING: u32 = 0x6240;
const CONTENT_ENCODING_SCOPE: u32 = 0x5032;
const CONTENT_ENCODING_TYPE: u32 = 0x5033;
const CONTENT_COMPRESSION: u32 = 0x5034;
const CONTENT_COMP_ALGO: u32 = 0x4254;
const CONTENT_COMP_SETTINGS: u32 = 0x4255;

/// The properties of an audio track that symphonia does not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Track {
    /// `TrackNumber`, used in blocks.
    pub number: u64,
    /// Usual name of the codec.
    pub codec: String,
    pub encoding: ContentEncoding,
}

/// `ContentEncoding`: encoding of the frames of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContentEncoding {
    None,
    /// These bytes were removed from the start of each frame.
    HeaderStripping(Vec<u8>),
    /// Each frame is a zlib stream.
    Zlib,
    /// An unsupported encoding, by name.
    Unsupported(&'static str),
}

impl ContentEncoding {
    /// Decodes a frame; `None` if it is damaged.
    pub(crate) fn decode(&self, frame: Box<[u8]>) -> Option<Box<[u8]>> {
        match self {
            Self::None => Some(frame),
            Self::HeaderStripping(header) => Some([header, &frame[..]].concat().into()),
            Self::Zlib => {
                miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&frame, MAX_FRAME_BYTES)
                    .ok()
                    .map(Vec::into_boxed_slice)
            }
            Self::Unsupported(_) => None,
        }
    }
}

/// The audio tracks of the file.
pub(crate) fn tracks(bytes: &Bytes, range: Range<u64>) -> Vec<Track> {
    let Some(segment) = elements(bytes, range).find(|element| element.id == SEGMENT) else {
        return Vec::new();
    };
    let tracks = elements(bytes, segment.content)
        .take_while(|element| element.id != CLUSTER || element.is_sized)
        .find(|element| element.id == TRACKS);
    tracks.map_or(Vec::new(), |tracks| {
        elements(bytes, tracks.content)
            .filter(|element| element.id == TRACK_ENTRY)
            .filter_map(|entry| track(bytes, entry.content))
            .take(MAX_TRACKS)
            .collect()
    })
}

fn track(bytes: &Bytes, entry: Range<u64>) -> Option<Track> {
    /// `TrackType` of audio.
    const AUDIO_TYPE: u64 = 2;
    let inside = |id| child(bytes, entry.clone(), id);
    if number(bytes, inside(TRACK_TYPE)?) != AUDIO_TYPE {
        return None;
    }
    let value =
        |range: Range<u64>| bytes.slice(range.start..range.end.min(range.start + MAX_VALUE_BYTES));
    let name = value(inside(CODEC_ID)?);
    let private = inside(CODEC_PRIVATE).map(value).unwrap_or_default();
    let depth = inside(AUDIO)
        .and_then(|audio| child(bytes, audio, BIT_DEPTH))
        .map_or(0, |depth| number(bytes, depth));
    Some(Track {
        number: number(bytes, inside(TRACK_NUMBER)?),
        codec: codec_name(&String::from_utf8_lossy(&name), &private, depth),
        encoding: inside(CONTENT_ENCODINGS).map_or(ContentEncoding::None, |encodings| {
            encoding(bytes, encodings)
        }),
    })
}

fn encoding(bytes: &Bytes, encodings: Range<u64>) -> ContentEncoding {
    let mut all = elements(bytes, encodings).filter(|element| element.id == CONTENT_ENCODING);
    let Some(first) = all.next() else {
        return ContentEncoding::None;
    };
    if all.next().is_some() {
        return ContentEncoding::Unsupported("multi-step compression");
    }
    let inside = |id| child(bytes, first.content.clone(), id);
    // The defaults: all frames, compression.
    let scope = inside(CONTENT_ENCODING_SCOPE).map_or(1, |scope| number(bytes, scope));
    let kind = inside(CONTENT_ENCODING_TYPE).map_or(0, |kind| number(bytes, kind));
    if kind != 0 {
        return ContentEncoding::Unsupported("encryption");
    }
    if scope & !1 != 0 {
        return ContentEncoding::Unsupported("compressed codec data");
    }
    if scope == 0 {
        return ContentEncoding::None;
    }
    let Some(compression) = inside(CONTENT_COMPRESSION) else {
        return ContentEncoding::Zlib;
    };
    let algorithm = child(bytes, compression.clone(), CONTENT_COMP_ALGO);
    match algorithm.map_or(0, |algorithm| number(bytes, algorithm)) {
        0 => ContentEncoding::Zlib,
        1 => ContentEncoding::Unsupported("bzip2 compression"),
        2 => ContentEncoding::Unsupported("LZO compression"),
        3 => match child(bytes, compression, CONTENT_COMP_SETTINGS) {
            Some(header) if header.end - header.start > MAX_VALUE_BYTES => {
                ContentEncoding::Unsupported("header stripping of more than 4096 bytes")
            }
            header => ContentEncoding::HeaderStripping(
                header.map(|header| bytes.slice(header)).unwrap_or_default(),
            ),
        },
        _ => ContentEncoding::Unsupported("compression of an unknown kind"),
    }
}

/// An element of a file.
struct Element {
    id: u32,
    content: Range<u64>,
    /// Whether the length is known.
    is_sized: bool,
}

/// The elements in a range, up to the first with an invalid header.
fn elements(bytes: &Bytes, range: Range<u64>) -> impl Iterator<Item = Element> + '_ {
    let mut offset = range.start;
    std::iter::from_fn(move || {
        let (id, id_len) = variable(bytes, offset, false)?;
        let (len, len_len) = variable(bytes, offset + id_len, true)?;
        let start = offset + id_len + len_len;
        if start > range.end {
            return None;
        }
        // All ones means an unknown length.
        let is_sized = len != (1 << (7 * len_len)) - 1;
        let end = if is_sized {
            start.saturating_add(len).min(range.end)
        } else {
            range.end
        };
        offset = end;
        Some(Element {
            id: u32::try_from(id).ok()?,
            content: start..end,
            is_sized,
        })
    })
}

/// A variable-length integer (RFC 8794, section 4), and its number of bytes. The marker bit is part of an element ID, but not
/// of a length: `strip` removes it.
fn variable(bytes: &Bytes, offset: u64, strip: bool) -> Option<(u64, u64)> {
    let [first] = bytes.array_at(offset)?;
    let len = u64::from(first.leading_zeros()) + 1;
    if len > 8 {
        return None;
    }
    let mut content = [0; 8];
    // At most eight.
    let content = &mut content[..len as usize];
    if bytes.read_at(offset, content) < content.len() {
        return None;
    }
    let number = content
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte));
    let marker = 1 << (7 * len);
    Some((if strip { number & (marker - 1) } else { number }, len))
}

fn child(bytes: &Bytes, range: Range<u64>, id: u32) -> Option<Range<u64>> {
    elements(bytes, range)
        .find(|element| element.id == id)
        .map(|element| element.content)
}

/// The unsigned integer in an element; 0 if it is longer than eight bytes.
fn number(bytes: &Bytes, range: Range<u64>) -> u64 {
    if range.end - range.start > 8 {
        return 0;
    }
    bytes
        .slice(range)
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The usual name of a codec.
fn codec_name(id: &str, private: &[u8], depth: u64) -> String {
    match id {
        "A_MS/ACM" => match WaveFormat::read(private, false) {
            Some(format) => format.name(),
            None => "of Windows".to_owned(),
        },
        "A_PCM/INT/LIT" | "A_PCM/INT/BIG" | "A_PCM/FLOAT/IEEE" => format!("{depth}-bit PCM"),
        "A_QUICKTIME" | "A_QUICKTIME/QDMC" | "A_QUICKTIME/QDM2" => "of QuickTime".to_owned(),
        id => id.trim_start_matches("A_").chars().take(40).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An element of at most 126 bytes.
    fn element(id: u32, content: &[u8]) -> Vec<u8> {
        let id: Vec<u8> = id
            .to_be_bytes()
            .into_iter()
            .skip_while(|byte| *byte == 0)
            .collect();
        [&id[..], &[0x80 | content.len() as u8], content].concat()
    }

    fn encoding_of(compression: &[u8]) -> ContentEncoding {
        let encoding = element(CONTENT_ENCODING, &element(CONTENT_COMPRESSION, compression));
        let entry = [
            element(TRACK_NUMBER, &[7]),
            element(TRACK_TYPE, &[2]),
            element(CODEC_ID, b"A_MPEG/L3"),
            element(CONTENT_ENCODINGS, &encoding),
        ]
        .concat();
        let tracks_element = element(TRACKS, &element(TRACK_ENTRY, &entry));
        let mut bytes = Bytes::new();
        bytes.append([element(0x1a45_dfa3, b""), element(SEGMENT, &tracks_element)].concat());
        let range = 0..bytes.len();
        let mut found = tracks(&bytes, range);
        let track = found.pop().unwrap();
        assert_eq!((track.number, &*track.codec), (7, "MPEG/L3"));
        track.encoding
    }

    #[test]
    fn stripped_headers_are_restored() {
        let settings = element(CONTENT_COMP_SETTINGS, b"\xff\xfb");
        let encoding = encoding_of(&[element(CONTENT_COMP_ALGO, &[3]), settings].concat());
        let frame = encoding.decode(Box::from(*b"\x50\xc4"));
        assert_eq!(frame.as_deref(), Some(&b"\xff\xfb\x50\xc4"[..]));
    }

    #[test]
    fn zlib_is_decompressed_and_damage_detected() {
        let encoding = encoding_of(b"");
        let packed = miniz_oxide::deflate::compress_to_vec_zlib(b"frame frame frame", 6);
        let frame = encoding.decode(packed.clone().into());
        assert_eq!(frame.as_deref(), Some(&b"frame frame frame"[..]));
        assert_eq!(encoding.decode(packed[..9].into()), None);
    }

    #[test]
    fn other_compression_is_named() {
        let encoding = encoding_of(&element(CONTENT_COMP_ALGO, &[1]));
        assert_eq!(encoding, ContentEncoding::Unsupported("bzip2 compression"));
    }
}
