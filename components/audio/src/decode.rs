//! From the bytes of a file to blocks of mono samples at the file's own rate.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use symphonia::core::codecs::audio::AudioDecoder;
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::FormatReader;
use symphonia::core::io::ReadBytes;
use symphonia::core::packet::Packet;

use crate::bytes::Reader;
use crate::format::container_name;
use crate::mix::Mixer;
use crate::probe::{CONVERT, choose_track, is_not_found, open_error, read_header};
use crate::{Bytes, Error, Format, Hint, parts, wav};

/// How many bytes of junk may stand before the first frame. Some recorders write a little; in much more, two bytes
/// that look like an MPEG frame turn up in any file.
const MAX_JUNK_BYTES: u32 = 64 * 1024;

/// The same before a further part of a joined file: enough for a tag between the two. What follows the last part is
/// no audio, so the reach is short.
const MAX_JUNK_BYTES_BETWEEN: u32 = 4 * 1024;

/// Rates that are decoded, in Hz. The upper bound keeps the resampler's filter, whose length follows the rate, small.
const SAMPLE_RATES: RangeInclusive<u32> = 1_000..=384_000;

/// Decodes the first audio track of a file that can be decoded, and of the files that are joined to it.
///
/// Readers of containers that may seek look for headers behind the audio, and trust the lengths they find; for a file that
/// was cut off they then find nothing at all. So where that fails, the file is read once more as a stream, from its start to
/// wherever it ends.
pub struct Decoder {
    bytes: Arc<Bytes>,
    /// Where the part that is being read lies in `bytes`.
    part: Range<u64>,
    /// Whether the file may still be read as a stream: not once that has been tried.
    may_restart: bool,
    /// None after the end.
    reader: Option<Box<dyn FormatReader>>,
    decoder: Box<dyn AudioDecoder>,
    track_id: u32,
    /// Where the part ends by its header, in samples, if its reader goes on behind that.
    stated_end: Option<i64>,
    /// Where the next packet begins, in samples; kept only as far as `stated_end` needs it.
    position: i64,
    format: Format,
    decoded_packets: u64,
    skipped_packets: u32,
    /// Why the last packet that was passed over could not be decoded.
    last_failure: Option<SymphoniaError>,
    interleaved: Vec<f32>,
    mixer: Mixer,
    mono: Vec<f32>,
}

/// Samples that follow each other, of one rate.
#[derive(Debug)]
pub struct Block<'a> {
    /// Hz. It can change from one block to the next, where files were joined.
    pub sample_rate: u32,
    /// Mean of the channels, or one of them where they cancel each other; full scale is 1.0.
    pub samples: &'a [f32],
}

impl Decoder {
    /// Find the format by content, and the first audio track that can be decoded.
    pub fn open(mut bytes: Bytes, hint: &Hint) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Err(Error::Empty(
                "there are no bytes: send the content of an audio file".to_owned(),
            ));
        }
        wav::mend_lengths(&mut bytes);
        let bytes = Arc::new(bytes);
        let part = parts::part_at(&bytes, 0);
        let whole = Reader::seekable(bytes.clone(), part.clone());
        let reader = match read_header(whole, MAX_JUNK_BYTES) {
            Err(error) if !is_not_found(&error) => {
                read_header(Reader::stream(bytes.clone(), part.clone()), MAX_JUNK_BYTES)
            }
            result => result,
        }
        .map_err(|error| open_error(error, hint))?;
        let (track_id, decoder, format) = choose_track(reader.as_ref())?;
        Ok(Self {
            bytes,
            part,
            may_restart: true,
            stated_end: parts::stated_end(reader.as_ref()),
            position: 0,
            reader: Some(reader),
            decoder,
            track_id,
            format,
            decoded_packets: 0,
            skipped_packets: 0,
            last_failure: None,
            interleaved: Vec::new(),
            mixer: Mixer::default(),
            mono: Vec::new(),
        })
    }

    /// What the file is, as of its first track.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Packets passed over so far because they could not be decoded.
    pub fn skipped_packets(&self) -> u32 {
        self.skipped_packets
    }

    /// The next block; none after the last.
    ///
    /// A packet that cannot be decoded is passed over and counted. A file that ends early yields what it has. Fails
    /// when the end comes before any packet could be decoded.
    pub fn next_block(&mut self) -> Result<Option<Block<'_>>, Error> {
        while let Some(reader) = &mut self.reader {
            if self.stated_end.is_some_and(|end| self.position >= end) {
                self.open_next_part();
                continue;
            }
            let packet = match reader.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track_id => packet,
                Ok(Some(_)) => continue,
                Ok(None) => {
                    self.open_next_part();
                    continue;
                }
                // A new chain of an Ogg file begins: its tracks replace the ones before.
                Err(SymphoniaError::ResetRequired) => {
                    match choose_track(reader.as_ref()) {
                        Ok((track_id, decoder, _)) => {
                            (self.track_id, self.decoder) = (track_id, decoder);
                        }
                        Err(error) if self.decoded_packets == 0 => return Err(error),
                        Err(_) => {
                            self.skip(SymphoniaError::Unsupported("the codec of a joined file"));
                            self.reader = None;
                        }
                    }
                    continue;
                }
                // ADTS has no header but those of its frames: behind a damaged one the reader finds the next.
                Err(error) if self.format.container == "adts" && !is_end_of_file(&error) => {
                    self.skip(error);
                    continue;
                }
                // Every other error of a reader is final: the rest of the part is missing.
                Err(error) => {
                    if self.decoded_packets == 0 && self.restart_as_stream() {
                        continue;
                    }
                    if !is_end_of_file(&error) {
                        self.skip(error);
                    }
                    self.open_next_part();
                    continue;
                }
            };
            self.position = end_of_packet(&packet);
            let mut failure = self.decoder.decode(&packet).err();
            // MP3 frames of a joined file with another rate, or of more or fewer channels, and no header before them. The
            // decoder keeps to those of its first frame; a fresh one takes these.
            if failure.as_ref().is_some_and(is_other_signal)
                && let Ok((_, fresh, _)) = choose_track(reader.as_ref())
            {
                self.decoder = fresh;
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
                "not one packet of the {} audio can be decoded ({failure}): the file is damaged, send it again or {CONVERT}",
                self.format.codec
            ))),
            _ => Ok(None),
        }
    }

    /// Whether the part could be opened as a stream, which is tried once.
    fn restart_as_stream(&mut self) -> bool {
        if !std::mem::take(&mut self.may_restart) {
            return false;
        }
        let stream = Reader::stream(self.bytes.clone(), self.part.clone());
        let Ok(reader) = read_header(stream, MAX_JUNK_BYTES) else {
            return false;
        };
        let Ok((track_id, decoder, _)) = choose_track(reader.as_ref()) else {
            return false;
        };
        self.stated_end = parts::stated_end(reader.as_ref());
        (self.track_id, self.decoder) = (track_id, decoder);
        self.reader = Some(reader);
        true
    }

    /// Go on with the file that is joined to the one just read; without one, this is the end.
    fn open_next_part(&mut self) {
        let Some(reader) = self.reader.take() else {
            return;
        };
        let start = if self.stated_end.is_some() {
            self.part.start + reader.into_inner().pos()
        } else {
            self.part.end
        };
        if start >= self.bytes.len() {
            return;
        }
        self.part = parts::part_at(&self.bytes, start);
        let next = Reader::seekable(self.bytes.clone(), self.part.clone());
        let reader = match read_header(next, MAX_JUNK_BYTES_BETWEEN) {
            Ok(reader) if container_name(reader.format_info()) == self.format.container => reader,
            // What follows is a tag, or junk.
            Ok(_) => return,
            Err(error) if is_not_found(&error) || is_end_of_file(&error) => return,
            Err(error) => return self.skip(error),
        };
        let Ok((track_id, decoder, _)) = choose_track(reader.as_ref()) else {
            return self.skip(SymphoniaError::Unsupported("the codec of a joined file"));
        };
        if !parts::continues(self.decoder.codec_params(), decoder.codec_params()) {
            self.decoder = decoder;
        }
        self.track_id = track_id;
        self.stated_end = parts::stated_end(reader.as_ref());
        self.position = 0;
        self.reader = Some(reader);
    }

    fn skip(&mut self, failure: SymphoniaError) {
        self.skipped_packets = self.skipped_packets.saturating_add(1);
        self.last_failure = Some(failure);
    }
}

fn is_end_of_file(error: &SymphoniaError) -> bool {
    matches!(error, SymphoniaError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof)
}

/// symphonia-bundle-mp3 0.6.1 has no kind of error of its own for it.
fn is_other_signal(error: &SymphoniaError) -> bool {
    matches!(error, SymphoniaError::DecodeError(text) if text.contains("signal spec"))
}

/// Where the packet ends, in samples, with what is to be trimmed.
fn end_of_packet(packet: &Packet) -> i64 {
    let samples = i64::try_from(packet.block_dur().get()).unwrap_or(i64::MAX);
    packet.pts.get().saturating_add(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_are_empty() {
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
