//! Decodes the bytes of a file to blocks of mono samples at the file's own rate.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use symphonia::core::codecs::audio::AudioDecoder;
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::well_known::FORMAT_ID_ADTS;
use symphonia::core::io::ReadBytes;
use symphonia::core::packet::Packet;
use symphonia::core::units::TimeBase;

use crate::container::{self, ContentEncoding, Edits, Failure, Opened};
use crate::error::CONVERT;
use crate::mix::Mixer;
use crate::probe::{Chosen, choose_track};
use crate::{Bytes, Error, Format, Hint, parts};

/// Supported sample rates, in Hz. The upper bound limits the length of the resampler's filter, which depends on the rate.
const SAMPLE_RATES: RangeInclusive<u32> = 1_000..=384_000;

/// Decodes the first decodable audio track of a file, and of the files joined to it.
pub struct Decoder {
    bytes: Arc<Bytes>,
    /// Range of the current part in `bytes`.
    part: Range<u64>,
    /// Whether reading the file as a stream has not been tried yet.
    may_restart: bool,
    /// `None` after the end.
    opened: Option<Opened>,
    decoder: Box<dyn AudioDecoder>,
    track_id: u32,
    /// Encoding of the track's packets.
    encoding: ContentEncoding,
    /// Edit list, if not the whole track is played.
    edits: Option<Edits>,
    /// Time base of the packets; `None` for samples.
    time_base: Option<TimeBase>,
    /// End of the part as stated in its header, in samples, if its reader continues past it.
    stated_end: Option<i64>,
    /// Start of the next packet, in samples; used only with `stated_end`.
    position: i64,
    format: Format,
    decoded_packets: u64,
    skipped_packets: u32,
    /// Why the last skipped packet could not be decoded.
    last_failure: Option<SymphoniaError>,
    interleaved: Vec<f32>,
    mixer: Mixer,
    mono: Vec<f32>,
}

/// Consecutive samples of one rate.
#[derive(Debug)]
pub struct Block<'a> {
    /// Hz. It can change between blocks if files were joined.
    pub sample_rate: u32,
    /// Mean of the channels, or one of them if they cancel each other out; full scale is 1.0.
    pub samples: &'a [f32],
}

impl Decoder {
    /// Detects the format by content, and selects the first audio track that can be decoded.
    pub fn open(mut bytes: Bytes, hint: &Hint) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Err(Error::Empty(
                "there are no bytes: send the content of an audio file".to_owned(),
            ));
        }
        container::prepare(&mut bytes);
        let bytes = Arc::new(bytes);
        let part = parts::part_at(&bytes, 0);
        let opened =
            container::open(&bytes, part.clone()).map_err(|failure| failure.into_error(hint))?;
        let chosen = choose_track(&opened)?;
        Ok(Self {
            bytes,
            part: opened.start..part.end,
            may_restart: opened.is_direct,
            stated_end: parts::stated_end(&opened),
            position: 0,
            opened: Some(opened),
            decoder: chosen.decoder,
            track_id: chosen.id,
            encoding: chosen.encoding,
            edits: chosen.edits,
            time_base: chosen.time_base,
            format: chosen.format,
            decoded_packets: 0,
            skipped_packets: 0,
            last_failure: None,
            interleaved: Vec::new(),
            mixer: Mixer::default(),
            mono: Vec::new(),
        })
    }

    /// Format of the file, by its first track.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Packets skipped so far because they could not be decoded.
    pub fn skipped_packets(&self) -> u32 {
        self.skipped_packets
    }

    /// The next block; `None` after the last.
    ///
    /// A packet that cannot be decoded is skipped and counted. A truncated file yields what it has. Fails
    /// if no packet could be decoded by the end.
    pub fn next_block(&mut self) -> Result<Option<Block<'_>>, Error> {
        while let Some(opened) = &mut self.opened {
            if self.stated_end.is_some_and(|end| self.position >= end) {
                self.open_next_part()?;
                continue;
            }
            let mut packet = match opened.reader.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track_id => packet,
                Ok(Some(_)) => continue,
                Ok(None) => {
                    self.open_next_part()?;
                    continue;
                }
                // A new link of a chained Ogg file, or a new stream in ADTS: its track replaces the previous one. If it is not
                // supported, the recording is refused: its transcription would lack this part.
                Err(SymphoniaError::ResetRequired) => {
                    let chosen = choose_track(opened)?;
                    self.decode_with(chosen);
                    continue;
                }
                // ADTS has only frame headers: after a damaged one the reader finds the next.
                Err(error) if is_adts(opened) && !is_end_of_file(&error) => {
                    self.skip(error);
                    continue;
                }
                // All other reader errors are final: the rest of the part is missing.
                Err(error) => {
                    if self.decoded_packets == 0 && self.restart_as_stream() {
                        continue;
                    }
                    if !is_end_of_file(&error) {
                        self.skip(error);
                    }
                    self.open_next_part()?;
                    continue;
                }
            };
            self.position = end_of_packet(&packet);
            match self.encoding.decode(std::mem::take(&mut packet.data)) {
                Some(data) => packet.data = data,
                None => {
                    self.skip(SymphoniaError::DecodeError(
                        "its compressed data is damaged",
                    ));
                    continue;
                }
            }
            let mut failure = self.decoder.decode(&packet).err();
            // MP3 frames of a joined file without a header, with another rate or number of channels. The
            // decoder is tied to those of its first frame, so a new one is needed.
            if failure.as_ref().is_some_and(is_other_signal)
                && let Ok(fresh) = choose_track(opened)
            {
                self.decoder = fresh.decoder;
                failure = self.decoder.decode(&packet).err();
            }
            let buffer = self.decoder.last_decoded();
            let failure = match failure {
                None if buffer.is_empty() => {
                    self.decoded_packets += 1;
                    continue;
                }
                None => {
                    let sample_rate = buffer.spec().rate();
                    if SAMPLE_RATES.contains(&sample_rate) {
                        self.decoded_packets += 1;
                        let channels = buffer.num_planes();
                        buffer.copy_to_vec_interleaved(&mut self.interleaved);
                        self.mixer.mix(
                            &mut self.interleaved,
                            channels,
                            sample_rate,
                            &mut self.mono,
                        );
                        if let Some(edits) = &self.edits {
                            let start = first_sample(&packet, self.time_base, sample_rate);
                            edits.apply(start, sample_rate, &mut self.mono);
                            if self.mono.is_empty() {
                                continue;
                            }
                        }
                        return Ok(Some(Block {
                            sample_rate,
                            samples: &self.mono,
                        }));
                    }
                    SymphoniaError::Unsupported("the sample rate is out of range")
                }
                Some(error) => error,
            };
            self.skip(failure);
        }
        match self.last_failure.take() {
            Some(failure) if self.decoded_packets == 0 => Err(Error::Corrupt(format!(
                "no packet of the {} audio can be decoded ({failure}): the file is damaged, send it again or {CONVERT}",
                self.format.codec
            ))),
            _ => Ok(None),
        }
    }

    /// Reopens the part as a stream, once. Returns whether that succeeded.
    fn restart_as_stream(&mut self) -> bool {
        if !std::mem::take(&mut self.may_restart) {
            return false;
        }
        let Ok(mut opened) = container::open_as_stream(&self.bytes, self.part.clone()) else {
            return false;
        };
        if let Some(before) = &mut self.opened {
            opened.tracks = std::mem::take(&mut before.tracks);
            opened.edits = std::mem::take(&mut before.edits);
        }
        let Ok(chosen) = choose_track(&opened) else {
            return false;
        };
        self.stated_end = parts::stated_end(&opened);
        self.decode_with(chosen);
        self.opened = Some(opened);
        true
    }

    fn decode_with(&mut self, chosen: Chosen) {
        self.track_id = chosen.id;
        self.decoder = chosen.decoder;
        self.encoding = chosen.encoding;
        self.edits = chosen.edits;
        self.time_base = chosen.time_base;
    }

    /// Continues with the next joined file; without one, this is the end. Fails if its codec is not supported.
    fn open_next_part(&mut self) -> Result<(), Error> {
        let Some(opened) = self.opened.take() else {
            return Ok(());
        };
        let start = if self.stated_end.is_some() {
            self.part.start + opened.reader.into_inner().pos()
        } else {
            self.part.end
        };
        if start >= self.bytes.len() {
            return Ok(());
        }
        self.part = parts::part_at(&self.bytes, start);
        let opened = match container::open_next(&self.bytes, self.part.clone()) {
            Ok(opened) if opened.container == self.format.container => opened,
            // A tag, or junk.
            Ok(_) | Err(Failure::NotFound | Failure::NotAudio(_) | Failure::Unsupported(_)) => {
                return Ok(());
            }
            Err(Failure::Symphonia(error)) if is_end_of_file(&error) => return Ok(()),
            Err(Failure::Symphonia(error)) => {
                self.skip(error);
                return Ok(());
            }
            Err(Failure::Refused(error)) => return Err(error),
        };
        let chosen = choose_track(&opened)?;
        self.part.start = opened.start;
        self.stated_end = parts::stated_end(&opened);
        self.position = 0;
        self.opened = Some(opened);
        if parts::continues(self.decoder.codec_params(), chosen.decoder.codec_params()) {
            self.track_id = chosen.id;
            self.edits = chosen.edits;
            self.time_base = chosen.time_base;
        } else {
            self.decode_with(chosen);
        }
        Ok(())
    }

    fn skip(&mut self, failure: SymphoniaError) {
        self.skipped_packets = self.skipped_packets.saturating_add(1);
        self.last_failure = Some(failure);
    }
}

fn is_adts(opened: &Opened) -> bool {
    opened.reader.format_info().format == FORMAT_ID_ADTS
}

fn is_end_of_file(error: &SymphoniaError) -> bool {
    matches!(error, SymphoniaError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof)
}

/// symphonia-bundle-mp3 0.6.1 has no dedicated error for this.
fn is_other_signal(error: &SymphoniaError) -> bool {
    matches!(error, SymphoniaError::DecodeError(text) if text.contains("signal spec"))
}

/// Index of the packet's first sample.
fn first_sample(packet: &Packet, time_base: Option<TimeBase>, sample_rate: u32) -> i64 {
    let time = packet.pts.get();
    let Some(time_base) = time_base else {
        return time;
    };
    let samples = i128::from(time) * i128::from(time_base.numer.get()) * i128::from(sample_rate)
        / i128::from(time_base.denom.get());
    i64::try_from(samples).unwrap_or(i64::MAX)
}

/// End of the packet, in samples, before trimming.
fn end_of_packet(packet: &Packet) -> i64 {
    let samples = i64::try_from(packet.block_dur().get()).unwrap_or(i64::MAX);
    packet.pts.get().saturating_add(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_is_empty() {
        assert!(matches!(
            Decoder::open(Bytes::new(), &Hint::default()),
            Err(Error::Empty(_))
        ));
    }

    #[test]
    fn text_is_not_audio_and_the_message_names_the_file() {
        let mut bytes = Bytes::new();
        bytes.append(b"Lorem ipsum dolor sit amet".to_vec());
        let hint = Hint {
            media_type: None,
            file_name: Some("a.txt".to_owned()),
        };
        let Err(Error::NotAudio(message)) = Decoder::open(bytes, &hint) else {
            panic!("expected not-audio")
        };
        assert!(
            message.starts_with("the bytes of \"a.txt\" are not an audio file"),
            "{message}"
        );
    }
}
