//! Signatures: detects the container by the first bytes, both supported ones and those that are rejected by name.
//!
//! A file with a recognised signature is not searched for MPEG frames: any compressed data is full of bytes that look like one.

use super::{aiff, au, flv, mpeg_ps, mpeg_ts, wav};
use crate::Bytes;

/// The content recognised at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signature {
    /// RIFF, RIFX, RF64, BW64 with form type `WAVE`, and Wave64.
    Wav,
    Aiff,
    Au,
    Avi,
    Caf,
    Flv,
    MpegTs,
    MpegPs,
    /// Matroska and WebM.
    Matroska,
    /// MP4, M4A, QuickTime.
    Mp4,
    Flac,
    Ogg,
    /// Unsupported audio or video.
    Unsupported(&'static str),
    /// Not audio at all.
    NotAudio(&'static str),
}

/// First bytes and names of unsupported formats.
const UNSUPPORTED: [(&[u8], &str); 36] = [
    (b"#!AMR-WB", "AMR-WB"),
    (b"#!AMR", "AMR"),
    (b"#!SILK_V3", "SILK"),
    (b"\x02#!SILK_V3", "SILK"),
    (b"\x0b\x77", "AC-3"),
    (b"\x77\x0b", "AC-3"),
    (b"\x7f\xfe\x80\x01", "DTS"),
    (b"\xfe\x7f\x01\x80", "DTS"),
    (b"\x1f\xff\xe8\x00", "DTS"),
    (b"\xff\x1f\x00\xe8", "DTS"),
    (b"wvpk", "WavPack"),
    (b"TTA1", "True Audio (TTA)"),
    (b"TTA2", "True Audio (TTA)"),
    (b"MAC ", "Monkey's Audio"),
    (b"MPCK", "Musepack"),
    (b"MP+", "Musepack"),
    (b"OFR ", "OptimFROG"),
    (b"LA02", "Lossless Audio"),
    (b"LA03", "Lossless Audio"),
    (b"LA04", "Lossless Audio"),
    (b"ajkg", "Shorten"),
    (b"DSD ", "DSF"),
    (b"FRM8", "DSDIFF"),
    (b"ea3\x03", "ATRAC (OMA)"),
    (b"EA3\x01", "ATRAC (OMA)"),
    (b".RMF", "RealMedia"),
    (b".ra\xfd", "RealAudio"),
    (b"Creative Voice File\x1a", "Creative Voice (VOC)"),
    (b"NIST_1A\n", "NIST SPHERE"),
    (b"MThd", "MIDI"),
    (b"Extended Module:", "a music module"),
    (b"IMPM", "a music module"),
    (
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",
        "ASF (Windows Media: WMA, WMV)",
    ),
    (b"\0\0\x01\xb3", "MPEG video without sound"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "MXF"),
    (b"2BIT", "AVR"),
];

/// First bytes and names of formats that are not audio.
const NOT_AUDIO: [(&[u8], &str); 15] = [
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\x1f\x8b\x08", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\x7fELF", "a program"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document"),
    (b"SQLite format 3\0", "a database"),
    (b"<!DOCTYPE ", "a web page"),
];

/// The content at `offset`, if it is recognised.
pub(crate) fn at(bytes: &Bytes, offset: u64) -> Option<Signature> {
    if let Some(found) = long_signature_at(bytes, offset) {
        return Some(found);
    }
    let mut start = [0; 24];
    let read = bytes.read_at(offset, &mut start);
    let start = &start[..read];
    let listed = |list: &[(&[u8], &'static str)]| {
        list.iter()
            .find(|(mark, _)| start.starts_with(mark))
            .map(|(_, name)| *name)
    };
    if let Some(name) = listed(&UNSUPPORTED) {
        return Some(Signature::Unsupported(name));
    }
    if let Some(name) = listed(&NOT_AUDIO) {
        return Some(Signature::NotAudio(name));
    }
    // The length of the access unit comes first.
    if let Some([0xf8, 0x72, 0x6f, 0xba | 0xbb]) = start.get(4..8) {
        return Some(Signature::Unsupported("Dolby TrueHD or MLP"));
    }
    if start.len() >= 12 {
        match (&start[..4], &start[8..12]) {
            (b"RIFF", b"AVI ") => return Some(Signature::Avi),
            (b"RIFF", b"QLCM") => return Some(Signature::Unsupported("QCELP")),
            (b"RIFF", b"RMID") => return Some(Signature::Unsupported("MIDI")),
            (b"RIFF", b"WEBP") => return Some(Signature::NotAudio("a WebP picture")),
            (b"FORM", b"8SVX" | b"16SV") => {
                return Some(Signature::Unsupported("8SVX (Amiga IFF)"));
            }
            _ => {}
        }
    }
    if flv::is_at(bytes, offset) {
        return Some(Signature::Flv);
    }
    if mpeg_ps::is_at(bytes, offset) {
        return Some(Signature::MpegPs);
    }
    if mpeg_ts::is_at(bytes, offset) {
        return Some(Signature::MpegTs);
    }
    is_loas(bytes, offset).then_some(Signature::Unsupported("AAC in LATM"))
}

/// The same for containers with a signature long enough to be searched for after junk.
pub(crate) fn long_signature_at(bytes: &Bytes, offset: u64) -> Option<Signature> {
    let start: [u8; 4] = bytes.array_at(offset)?;
    match &start {
        b"RIFF" | b"RIFX" | b"RF64" | b"BW64" | b"riff" if wav::is_at(bytes, offset) => {
            Some(Signature::Wav)
        }
        b"FORM" if aiff::is_at(bytes, offset) => Some(Signature::Aiff),
        b"fLaC" => Some(Signature::Flac),
        b"OggS" => Some(Signature::Ogg),
        b"caff" => Some(Signature::Caf),
        b"\x1a\x45\xdf\xa3" => Some(Signature::Matroska),
        start if *start == au::START => Some(Signature::Au),
        _ if mpeg_ts::is_long_at(bytes, offset) => Some(Signature::MpegTs),
        // Old QuickTime files have no `ftyp` and start with any of these.
        _ => {
            let name: [u8; 4] = bytes.array_at(offset + 4)?;
            let is_box = match &name {
                b"ftyp" => true,
                b"moov" | b"mdat" | b"wide" | b"free" | b"skip" | b"pnot" => start[0] == 0,
                _ => false,
            };
            is_box.then_some(Signature::Mp4)
        }
    }
}

/// Whether three consecutive LOAS frames (AAC in LATM; ISO/IEC 14496-3, 1.7.2) start here: an 11-bit syncword, then the length.
fn is_loas(bytes: &Bytes, offset: u64) -> bool {
    let mut offset = offset;
    (0..3).all(|_| {
        let Some([a, b, c]) = bytes.array_at(offset) else {
            return false;
        };
        offset += 3 + (u64::from(b & 0x1f) << 8 | u64::from(c));
        a == 0x56 && b & 0xe0 == 0xe0
    })
}
