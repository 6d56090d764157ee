//! Container detection and demultiplexing.
//!
//! The container is detected by its signature. Containers of equal blocks, or of self-describing frames, are demultiplexed here and
//! yield a [`Content`]; symphonia reads the others. A container that is recognised but not supported is rejected by name. Only a
//! file without a known signature is searched for MPEG frames.

mod aac;
mod adts;
mod aiff;
mod au;
mod avi;
mod boxes;
mod caf;
mod chunks;
mod content;
mod edits;
mod flv;
mod fragments;
mod matroska;
mod mp4;
mod mpeg_frames;
mod mpeg_ps;
mod mpeg_ts;
mod ogg;
mod pes;
mod sample_entry;
mod signature;
mod tags;
mod wav;
mod wave_format;

use std::ops::Range;
use std::sync::Arc;

use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::probe::{Hint as ProbeHint, Probe, ProbeOptions};
use symphonia::core::formats::{FormatOptions, FormatReader};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::default::formats::MpaReader;
use symphonia::default::register_enabled_formats;

pub(crate) use aac::Config as AacConfig;
pub(crate) use edits::Edits;
pub(crate) use matroska::ContentEncoding;
pub(crate) use wav::joint_after;

use crate::blocks::BlockReader;
use crate::bytes::Reader;
use crate::error::{CONVERT, damaged, unsupported};
use crate::format::container_name;
use crate::payload::{Payload, Single};
use crate::{Bytes, Error, Hint};
use adts::AdtsReader;
use content::{Coding, Content};
use signature::Signature;

/// Maximum bytes of junk before the first frame. Some recorders write a little, and interrupted downloads leave zeros.
const MAX_JUNK_BYTES: u64 = 1024 * 1024;

/// The same before the next part of a concatenated file: enough for a tag in between. Data after the last part is
/// not audio, so the limit is low.
const MAX_JUNK_BYTES_BETWEEN: u64 = 4 * 1024;

/// Search depth of symphonia's probe, in bytes. Its input starts with a container or a frame.
const PROBE_DEPTH: u32 = 32;

/// An opened file, or a part of one.
pub(crate) struct Opened {
    pub reader: Box<dyn FormatReader>,
    /// Short name.
    pub container: &'static str,
    /// Where it starts, after tags and junk.
    pub start: u64,
    /// Whether symphonia reads the container itself, so that the reader's positions are relative to `start`.
    pub is_direct: bool,
    /// The audio tracks of Matroska.
    pub tracks: Vec<matroska::Track>,
    /// Edit lists by track ID, for tracks that are not played completely.
    pub edits: Vec<(u32, Edits)>,
}

/// Why a file cannot be opened.
pub(crate) enum Failure {
    /// No known container or frame within the junk limit.
    NotFound,
    /// Recognised, but not audio.
    NotAudio(&'static str),
    /// Recognised, but not supported.
    Unsupported(&'static str),
    Symphonia(SymphoniaError),
    Refused(Error),
}

impl Failure {
    /// The error for the sender.
    pub(crate) fn into_error(self, hint: &Hint) -> Error {
        let bytes = format!("the bytes{}", hint.describe());
        match self {
            Self::NotFound => Error::NotAudio(format!(
                "{bytes} are not an audio file in a known format: send WAV, AIFF, CAF, MP3, FLAC, Ogg Vorbis, M4A, AAC, \
                 Matroska or WebM, or {CONVERT}"
            )),
            Self::NotAudio(name) => Error::NotAudio(format!(
                "{bytes} are {name}: send the audio itself, e.g. WAV, MP3, FLAC or M4A"
            )),
            Self::Unsupported(name) => unsupported(&format!("{bytes} are {name}, which")),
            Self::Refused(error) => error,
            // `ftyp` comes first, so it cannot be missing due to truncation.
            Self::Symphonia(SymphoniaError::Unsupported("isomp4: missing ftyp atom")) => {
                unsupported(&format!("{bytes} are QuickTime without a file type, which"))
            }
            // A missing header is damage, not a feature: the file was truncated before it.
            Self::Symphonia(SymphoniaError::Unsupported(feature))
                if !feature.contains("missing") =>
            {
                Error::UnsupportedCodec(format!(
                    "{bytes} require a feature that is not supported ({feature}): {CONVERT}"
                ))
            }
            Self::Symphonia(error) => damaged(&format!(
                "{bytes} start like an audio file, but the header cannot be read ({error})"
            )),
        }
    }
}

/// Rewrites data that symphonia cannot read, before the bytes are shared.
pub(crate) fn prepare(bytes: &mut Bytes) {
    let range = 0..bytes.len();
    if let Ok((range, Some(Signature::Mp4))) = find(bytes, range, MAX_JUNK_BYTES) {
        mp4::prepare(bytes, range);
    }
}

/// Opens the range, skipping tags and at most [`MAX_JUNK_BYTES`] of junk.
pub(crate) fn open(bytes: &Arc<Bytes>, range: Range<u64>) -> Result<Opened, Failure> {
    let found = find(bytes, range, MAX_JUNK_BYTES)?;
    open_found(bytes, found)
}

/// Opens the range as the next part of a concatenated file. An MP4 is not opened there, because it has not been prepared.
pub(crate) fn open_next(bytes: &Arc<Bytes>, range: Range<u64>) -> Result<Opened, Failure> {
    match find(bytes, range, MAX_JUNK_BYTES_BETWEEN)? {
        (_, Some(Signature::Mp4)) => Err(Failure::NotFound),
        found => open_found(bytes, found),
    }
}

/// Returns the range after tags and at most `max_junk` bytes of junk, and the signature at its start; `None` for MPEG frames.
fn find(
    bytes: &Bytes,
    range: Range<u64>,
    max_junk: u64,
) -> Result<(Range<u64>, Option<Signature>), Failure> {
    let start = tags::skip(bytes, range.start).min(range.end);
    let range = start..range.end;
    if let Some(signature) = signature::at(bytes, start) {
        return Ok((range, Some(signature)));
    }
    if mpeg_frames::is_free_format(bytes, start) {
        return Err(Failure::Unsupported("free-format MP3"));
    }
    let found = mpeg_frames::find(bytes, range.clone(), max_junk).ok_or(Failure::NotFound)?;
    Ok((found..range.end, signature::long_signature_at(bytes, found)))
}

fn open_found(
    bytes: &Arc<Bytes>,
    (range, signature): (Range<u64>, Option<Signature>),
) -> Result<Opened, Failure> {
    match signature {
        Some(signature) => open_known(bytes, range, signature),
        None => match bytes.array_at(range.start).and_then(mpeg_frames::refused) {
            Some(name) => Err(Failure::Unsupported(name)),
            None if adts::is_adts(bytes, range.start) => Content {
                container: "adts",
                coding: Coding::Adts,
                len: None,
                pieces: Box::new(Single::new(range.clone())),
            }
            .open(bytes, range.start),
            None => open_with_symphonia(bytes, range),
        },
    }
}

fn open_known(
    bytes: &Arc<Bytes>,
    range: Range<u64>,
    signature: Signature,
) -> Result<Opened, Failure> {
    let mut edits = None;
    let content = match signature {
        Signature::NotAudio(name) => return Err(Failure::NotAudio(name)),
        Signature::Unsupported(name) => return Err(Failure::Unsupported(name)),
        Signature::Wav => wav::open(bytes, range.clone()).map(Some),
        Signature::Aiff => aiff::open(bytes, range.clone()).map(Some),
        Signature::Au => au::open(bytes, range.clone()).map(Some),
        Signature::Avi => avi::open(bytes, range.clone()).map(Some),
        Signature::Flv => flv::open(bytes, range.clone()).map(Some),
        Signature::MpegPs => mpeg_ps::open(bytes, range.clone()).map(Some),
        Signature::MpegTs => mpeg_ts::open(bytes, range.clone()).map(Some),
        Signature::Caf => caf::open(bytes, range.clone()),
        Signature::Mp4 => mp4::open(bytes, range.clone()).map(|found| {
            found.map(|(content, played)| {
                edits = played;
                content
            })
        }),
        Signature::Ogg => match ogg::refused(bytes, range.start) {
            Some(name) => Err(unsupported(&format!("the codec {name} in ogg"))),
            None => ogg::check(bytes, range.clone()).map(|()| None),
        },
        Signature::Matroska | Signature::Flac => Ok(None),
    };
    match content.map_err(Failure::Refused)? {
        Some(content) => {
            let mut opened = content.open(bytes, range.start)?;
            let track = opened.reader.tracks().first().map(|track| track.id);
            opened.edits.extend(track.zip(edits));
            Ok(opened)
        }
        None => {
            let mut opened = open_with_symphonia(bytes, range.clone())?;
            match signature {
                Signature::Matroska => opened.tracks = matroska::tracks(bytes, range),
                Signature::Mp4 => opened.edits = mp4::edits(bytes, range),
                _ => {}
            }
            Ok(opened)
        }
    }
}

impl Content {
    fn open(self, bytes: &Arc<Bytes>, start: u64) -> Result<Opened, Failure> {
        let mut payload = Payload::new(bytes.clone(), self.pieces);
        if matches!(self.coding, Coding::MpegAudio | Coding::Adts)
            && let Ok(Some(header)) = payload.peek()
            && let Some(name) = mpeg_frames::refused(header)
        {
            let name = format!("the codec {name} in {}", self.container);
            return Err(Failure::Refused(unsupported(&name)));
        }
        let reader: Result<Box<dyn FormatReader>, _> = match self.coding {
            Coding::Blocks(blocks) => BlockReader::new(payload, blocks, self.len)
                .map(|reader| Box::new(reader) as Box<dyn FormatReader>),
            Coding::MpegAudio => MpaReader::try_new(stream(payload), FormatOptions::default())
                .map(|reader| Box::new(reader) as Box<dyn FormatReader>),
            Coding::Adts => {
                AdtsReader::new(payload).map(|reader| Box::new(reader) as Box<dyn FormatReader>)
            }
        };
        Ok(Opened {
            reader: reader.map_err(Failure::Symphonia)?,
            container: self.container,
            start,
            is_direct: false,
            tracks: Vec::new(),
            edits: Vec::new(),
        })
    }
}

/// Readers that can seek look for headers after the audio and trust the stated lengths, which fails for a truncated file.
/// In that case, the file is read again as a stream, from start to end.
fn open_with_symphonia(bytes: &Arc<Bytes>, range: Range<u64>) -> Result<Opened, Failure> {
    let seekable = Reader::seekable(bytes.clone(), range.clone());
    match probe(stream(seekable)) {
        Ok(reader) => Ok(Opened::direct(reader, range.start)),
        Err(error) if is_not_found(&error) => Err(Failure::NotFound),
        Err(_) => open_as_stream(bytes, range),
    }
}

/// Opens the range as a stream that cannot seek.
pub(crate) fn open_as_stream(bytes: &Arc<Bytes>, range: Range<u64>) -> Result<Opened, Failure> {
    let start = range.start;
    match probe(stream(Reader::stream(bytes.clone(), range))) {
        Ok(reader) => Ok(Opened::direct(reader, start)),
        Err(error) if is_not_found(&error) => Err(Failure::NotFound),
        Err(error) => Err(Failure::Symphonia(error)),
    }
}

impl Opened {
    fn direct(reader: Box<dyn FormatReader>, start: u64) -> Self {
        Self {
            container: container_name(reader.format_info()),
            reader,
            start,
            is_direct: true,
            tracks: Vec::new(),
            edits: Vec::new(),
        }
    }
}

fn stream(source: impl MediaSource + 'static) -> MediaSourceStream<'static> {
    MediaSourceStream::new(Box::new(source), Default::default())
}

fn probe(stream: MediaSourceStream<'static>) -> Result<Box<dyn FormatReader>, SymphoniaError> {
    let mut probe = Probe::new_with_options(&ProbeOptions {
        max_probe_depth: PROBE_DEPTH,
        ..Default::default()
    });
    register_enabled_formats(&mut probe);
    probe.probe(
        &ProbeHint::new(),
        stream,
        Default::default(),
        Default::default(),
    )
}

/// Whether the probe found no container. symphonia has no dedicated error for this.
fn is_not_found(error: &SymphoniaError) -> bool {
    matches!(
        error,
        SymphoniaError::Unsupported("core (probe): no suitable format reader found")
    )
}
