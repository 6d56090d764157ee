//! Audio in blocks of equal length: PCM, G.711, ADPCM, GSM.
//!
//! Of a container that holds such blocks nothing but the header needs a reader of its own.

use std::io::Read;

use symphonia::core::audio::Channels;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{AudioCodecId, AudioCodecParameters};
use symphonia::core::common::FourCc;
use symphonia::core::errors::{Error, Result, SeekErrorKind};
use symphonia::core::formats::{
    FormatId, FormatInfo, FormatReader, MediaInfo, SeekMode, SeekTo, SeekedTo, Track,
};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::{Metadata, MetadataLog};
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use crate::payload::Payload;

/// Frames per packet, where blocks are shorter: as many as in a packet of MP3, so that all containers are mixed in like steps.
const PACKET_FRAMES: u64 = 1152;

/// The longest block, in bytes: just above what the 16 bits of a WAV header can state. Other headers have 32 bits.
const MAX_BLOCK_BYTES: u64 = 64 * 1024;

/// Bytes per packet, where blocks are shorter.
const PACKET_BYTES: u64 = 256 * 1024;

/// The most channels. No recorder has more, and each costs memory.
const MAX_CHANNELS: u32 = 256;

/// The format of the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub codec: AudioCodecId,
    /// Hz.
    pub sample_rate: u32,
    pub channels: u32,
    /// Bytes per block, of all channels together.
    pub bytes: u64,
    /// Samples per block and channel.
    pub frames: u64,
    /// Significant bits per sample, where these are the lower bits of a wider word.
    pub low_bits: Option<u32>,
}

impl Blocks {
    /// Whether a file can have such blocks.
    fn are_sane(&self) -> bool {
        (1..=MAX_BLOCK_BYTES).contains(&self.bytes)
            && (1..=MAX_CHANNELS).contains(&self.channels)
            && self.frames > 0
    }
}

const INFO: FormatInfo = FormatInfo {
    format: FormatId::new(FourCc::new(*b"blks")),
    short_name: "blocks",
    long_name: "Blocks of one length",
};

/// Reads blocks, several to a packet.
pub(crate) struct BlockReader {
    reader: MediaSourceStream<'static>,
    blocks: Blocks,
    /// Blocks per packet.
    at_once: u64,
    /// Samples read so far, of each channel.
    position: u64,
    tracks: Vec<Track>,
    media_info: MediaInfo,
    metadata: MetadataLog,
}

impl BlockReader {
    /// A reader of the payload; `len` is its length in bytes, if that is known.
    pub(crate) fn new(payload: Payload, blocks: Blocks, len: Option<u64>) -> Result<Self> {
        if !blocks.are_sane() {
            return Err(Error::DecodeError("impossible block size or channels"));
        }
        let at_once = (PACKET_FRAMES / blocks.frames)
            .min(PACKET_BYTES / blocks.bytes)
            .max(1);
        let mut parameters = AudioCodecParameters::new();
        parameters
            .for_codec(blocks.codec)
            .with_sample_rate(blocks.sample_rate)
            .with_channels(channels(blocks.channels))
            .with_frames_per_block(blocks.frames)
            .with_max_frames_per_packet(at_once * blocks.frames);
        if let Some(bits) = blocks.low_bits {
            parameters
                .with_bits_per_sample(32)
                .with_bits_per_coded_sample(bits);
        }
        let mut track = Track::new(0);
        track.with_codec_params(CodecParameters::Audio(parameters));
        if let Some(len) = len {
            track.with_num_frames((len / blocks.bytes).saturating_mul(blocks.frames));
        }
        Ok(Self {
            reader: MediaSourceStream::new(Box::new(payload), Default::default()),
            blocks,
            at_once,
            position: 0,
            media_info: MediaInfo::from_track(&track),
            tracks: vec![track],
            metadata: MetadataLog::default(),
        })
    }
}

/// Channels without positions: all are mixed alike.
pub(crate) fn channels(count: u32) -> Channels {
    Channels::Discrete(u16::try_from(count).unwrap_or(u16::MAX))
}

impl FormatReader for BlockReader {
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
        // Within usize: the larger of the two bounds on bytes.
        let mut data = vec![0; (self.at_once * self.blocks.bytes) as usize];
        let mut filled = 0;
        while filled < data.len() {
            match self.reader.read(&mut data[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        // A block that was cut off cannot be decoded.
        let count = filled as u64 / self.blocks.bytes;
        if count == 0 {
            return Ok(None);
        }
        data.truncate((count * self.blocks.bytes) as usize);
        let frames = count * self.blocks.frames;
        let start = i64::try_from(self.position).unwrap_or(i64::MAX);
        self.position = self.position.saturating_add(frames);
        Ok(Some(Packet::new(
            0,
            Timestamp::new(start),
            Duration::new(frames),
            data,
        )))
    }

    fn into_inner<'s>(self: Box<Self>) -> MediaSourceStream<'s>
    where
        Self: 's,
    {
        self.reader
    }
}
