//! Audio in blocks of equal length: PCM, G.711, ADPCM, GSM.
//!
//! For a container of such blocks, only the header needs a specific parser.

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

/// Frames per packet, if blocks are shorter: the same as in an MP3 packet, so that all containers are mixed in similar steps.
const PACKET_FRAMES: u64 = 1152;

/// Maximum bytes per block: just above the 16-bit maximum of a WAV header. Other headers have 32 bits.
const MAX_BLOCK_BYTES: u64 = 64 * 1024;

/// Bytes per packet, if blocks are shorter.
const PACKET_BYTES: u64 = 256 * 1024;

/// Maximum number of channels. No recorder has more, and each costs memory.
const MAX_CHANNELS: u32 = 256;

/// The format of the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub codec: AudioCodecId,
    /// Hz.
    pub sample_rate: u32,
    pub channels: u32,
    /// Bytes per block, for all channels.
    pub bytes: u64,
    /// Samples per block and channel.
    pub frames: u64,
    /// Significant bits per sample, if they are the low bits of a wider word.
    pub low_bits: Option<u32>,
}

impl Blocks {
    /// Whether the values are plausible.
    fn is_valid(&self) -> bool {
        (1..=MAX_BLOCK_BYTES).contains(&self.bytes)
            && (1..=MAX_CHANNELS).contains(&self.channels)
            && self.frames > 0
    }
}

const INFO: FormatInfo = FormatInfo {
    format: FormatId::new(FourCc::new(*b"blks")),
    short_name: "blocks",
    long_name: "Blocks of equal length",
};

/// Reads blocks, several to a packet.
pub(crate) struct BlockReader {
    reader: MediaSourceStream<'static>,
    blocks: Blocks,
    blocks_per_packet: u64,
    /// Samples read so far, of each channel.
    position: u64,
    tracks: Vec<Track>,
    media_info: MediaInfo,
    metadata: MetadataLog,
}

impl BlockReader {
    /// `len` is the length of the payload in bytes, if known.
    pub(crate) fn new(payload: Payload, blocks: Blocks, len: Option<u64>) -> Result<Self> {
        if !blocks.is_valid() {
            return Err(Error::DecodeError("invalid block size or channels"));
        }
        let blocks_per_packet = (PACKET_FRAMES / blocks.frames)
            .min(PACKET_BYTES / blocks.bytes)
            .max(1);
        let mut parameters = AudioCodecParameters::new();
        parameters
            .for_codec(blocks.codec)
            .with_sample_rate(blocks.sample_rate)
            .with_channels(channels(blocks.channels))
            .with_frames_per_block(blocks.frames)
            .with_max_frames_per_packet(blocks_per_packet * blocks.frames);
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
            blocks_per_packet,
            position: 0,
            media_info: MediaInfo::from_track(&track),
            tracks: vec![track],
            metadata: MetadataLog::default(),
        })
    }
}

/// Channels without positions: all are mixed equally.
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
        // Fits into usize: at most the larger of the two byte limits.
        let mut data = vec![0; (self.blocks_per_packet * self.blocks.bytes) as usize];
        let mut filled = 0;
        while filled < data.len() {
            match self.reader.read(&mut data[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        // A truncated block cannot be decoded.
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
