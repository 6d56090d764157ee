//! Reader of ADTS: AAC frames, each with a header (ISO/IEC 13818-7, 6.2).
//!
//! In concatenated recordings and in broadcasts, sample rate and channels change between frames. symphonia's reader ignores that.

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_AAC;
use symphonia::core::errors::{Error, Result, SeekErrorKind};
use symphonia::core::formats::well_known::FORMAT_ID_ADTS;
use symphonia::core::formats::{
    FormatInfo, FormatReader, MediaInfo, SeekMode, SeekTo, SeekedTo, Track,
};
use symphonia::core::io::{MediaSourceStream, ReadBytes};
use symphonia::core::meta::{Metadata, MetadataLog};
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use super::aac::SAMPLE_RATES;
use crate::Bytes;
use crate::blocks::channels;
use crate::payload::Payload;

/// Samples per frame and channel.
const FRAME_SAMPLES: u64 = 1024;

/// Bytes of a header, and of the checksum that may follow it.
const HEADER_LEN: usize = 7;
const CHECKSUM_LEN: usize = 2;

const INFO: FormatInfo = FormatInfo {
    format: FORMAT_ID_ADTS,
    short_name: "adts",
    long_name: "AAC with ADTS headers",
};

/// Whether there is an ADTS header at `offset`.
pub(crate) fn is_adts(bytes: &Bytes, offset: u64) -> bool {
    bytes
        .array_at(offset)
        .is_some_and(|[a, b]| a == 0xff && b & 0xf6 == 0xf0)
}

/// What frames of one stream have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stream {
    /// Hz.
    sample_rate: u32,
    /// 0 if a program config element states them.
    channels: u32,
}

struct Header {
    stream: Stream,
    /// Bytes of the frame after the header and its checksum.
    len: usize,
    /// Raw data blocks in the frame.
    blocks: u32,
    /// Whether it was not where the previous frame ended.
    is_displaced: bool,
}

/// Reads frames, and reports a new stream with [`Error::ResetRequired`].
pub(crate) struct AdtsReader {
    reader: MediaSourceStream<'static>,
    stream: Stream,
    /// The first frame of a new stream.
    frame: Option<Box<[u8]>>,
    /// The next header, if it was read ahead.
    header: Option<Result<Option<Header>>>,
    /// Samples so far, of each channel.
    position: u64,
    tracks: Vec<Track>,
    media_info: MediaInfo,
    metadata: MetadataLog,
}

impl AdtsReader {
    pub(crate) fn new(payload: Payload) -> Result<Self> {
        let mut reader = MediaSourceStream::new(Box::new(payload), Default::default());
        let header =
            read_header(&mut reader)?.ok_or(Error::DecodeError("there is no ADTS frame"))?;
        let track = header.stream.track();
        Ok(Self {
            reader,
            stream: header.stream,
            frame: None,
            header: Some(Ok(Some(header))),
            position: 0,
            media_info: MediaInfo::from_track(&track),
            tracks: vec![track],
            metadata: MetadataLog::default(),
        })
    }

    fn read_frame(&mut self, header: &Header) -> Result<Box<[u8]>> {
        let frame = self.reader.read_boxed_slice_exact(header.len)?;
        match header.blocks {
            1 => Ok(frame),
            _ => Err(Error::Unsupported("several raw data blocks per ADTS frame")),
        }
    }

    fn packet(&mut self, frame: Box<[u8]>) -> Packet {
        let start = i64::try_from(self.position).unwrap_or(i64::MAX);
        self.position = self.position.saturating_add(FRAME_SAMPLES);
        Packet::new(
            0,
            Timestamp::new(start),
            Duration::new(FRAME_SAMPLES),
            frame,
        )
    }
}

impl FormatReader for AdtsReader {
    fn format_info(&self) -> &FormatInfo {
        &INFO
    }

    fn media_info(&self) -> &MediaInfo {
        &self.media_info
    }

    fn metadata(&mut self) -> Metadata<'_> {
        self.metadata.metadata()
    }

    fn seek(&mut self, _: SeekMode, _: SeekTo) -> Result<SeekedTo> {
        Err(Error::SeekError(SeekErrorKind::Unseekable))
    }

    fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    fn next_packet(&mut self) -> Result<Option<Packet>> {
        if let Some(frame) = self.frame.take() {
            return Ok(Some(self.packet(frame)));
        }
        let header = match self.header.take() {
            Some(header) => header?,
            None => read_header(&mut self.reader)?,
        };
        let Some(header) = header else {
            return Ok(None);
        };
        let frame = self.read_frame(&header)?;
        if header.stream == self.stream {
            return Ok(Some(self.packet(frame)));
        }
        // A damaged header may state anything, so the next one must confirm it.
        let next = read_header(&mut self.reader);
        let is_confirmed = match &next {
            Ok(Some(next)) => next.stream == header.stream && !next.is_displaced,
            _ => false,
        };
        self.header = Some(next);
        if !is_confirmed {
            return Err(Error::DecodeError("an ADTS header is damaged"));
        }
        self.stream = header.stream;
        self.tracks = vec![header.stream.track()];
        self.frame = Some(frame);
        Err(Error::ResetRequired)
    }

    fn into_inner<'s>(self: Box<Self>) -> MediaSourceStream<'s>
    where
        Self: 's,
    {
        self.reader
    }
}

impl Stream {
    fn track(self) -> Track {
        let mut parameters = AudioCodecParameters::new();
        parameters
            .for_codec(CODEC_ID_AAC)
            .with_sample_rate(self.sample_rate);
        if self.channels > 0 {
            parameters.with_channels(channels(self.channels));
        }
        let mut track = Track::new(0);
        track.with_codec_params(CodecParameters::Audio(parameters));
        track
    }
}

/// Reads the next header, with its checksum; `None` at the end.
fn read_header(reader: &mut MediaSourceStream<'_>) -> Result<Option<Header>> {
    match search_header(reader) {
        Err(Error::IoError(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        header => header.map(Some),
    }
}

fn search_header(reader: &mut MediaSourceStream<'_>) -> Result<Header> {
    let mut sync = reader.read_be_u16()?;
    let mut is_displaced = false;
    // The syncword, and layer 0.
    while sync & 0xfff6 != 0xfff0 {
        sync = sync << 8 | u16::from(reader.read_u8()?);
        is_displaced = true;
    }
    let mut rest = [0; HEADER_LEN - 2];
    reader.read_buf_exact(&mut rest)?;
    let [a, b, c, d, e] = rest.map(u32::from);
    let has_checksum = sync & 1 == 0;
    if has_checksum {
        reader.ignore_bytes(CHECKSUM_LEN as u64)?;
    }
    let header_len = HEADER_LEN + if has_checksum { CHECKSUM_LEN } else { 0 };
    let len = ((b & 3) << 11 | c << 3 | d >> 5) as usize;
    let sample_rate = SAMPLE_RATES.get((a >> 2 & 15) as usize);
    let (Some(&sample_rate), Some(len)) = (sample_rate, len.checked_sub(header_len)) else {
        return Err(Error::DecodeError("an ADTS header is damaged"));
    };
    Ok(Header {
        stream: Stream {
            sample_rate,
            channels: match (a & 1) << 2 | b >> 6 {
                7 => 8,
                channels => channels,
            },
        },
        len,
        blocks: 1 + (e & 3),
        is_displaced,
    })
}
