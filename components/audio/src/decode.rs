//! From the bytes of a file to blocks of mono samples at the file's own rate.

use std::sync::Arc;

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{
    AudioCodecParameters, AudioDecoder, AudioDecoderOptions, CODEC_ID_NULL_AUDIO,
};
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::probe::{Hint as ProbeHint, Probe, ProbeOptions};
use symphonia::core::formats::{FormatReader, Track};
use symphonia::core::io::MediaSourceStream;
use symphonia::default::{get_codecs, register_enabled_formats};

use crate::bytes::Reader;
use crate::format::{codec_name, container_name, unsupported_codec_name};
use crate::{Bytes, Error, Format, Hint};

/// How many bytes of junk may stand before the first frame. Some recorders write a little; in much more, two bytes
/// that look like an MPEG frame turn up in any file.
const MAX_JUNK_BYTES: u32 = 64 * 1024;

/// Rates that are decoded, in Hz. The upper bound keeps the resampler's filter, whose length follows the rate, small.
const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 1_000..=384_000;

/// Samples of one packet, of all channels together. Decoders allocate what a header states before they see a packet; the
/// largest that is real, a FLAC block of 65,535 samples in 8 channels, is an eighth of this.
const MAX_PACKET_SAMPLES: u64 = 1 << 22;

/// Samples are clamped to this magnitude. Full scale is 1.0; a float file can hold anything, and the power of the
/// largest floats is infinite.
const MAX_SAMPLE: f32 = 1e6;

/// What can be done about a file that cannot be read; the end of several messages.
const CONVERT: &str = "convert it, e.g. with `ffmpeg -i INPUT output.wav`";

/// Decodes the first audio track of a file that can be decoded.
///
/// Readers of containers that may seek look for headers behind the audio, and trust the lengths they find; for a file that
/// was cut off they then find nothing at all. So where that fails, the file is read once more as a stream, from its start to
/// wherever it ends.
pub struct Decoder {
    /// For reading the file as a stream, while that has not been tried and no packet has been decoded.
    bytes: Option<Arc<Bytes>>,
    reader: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track_id: u32,
    format: Format,
    decoded_packets: u64,
    skipped_packets: u32,
    /// Why the last packet that was passed over could not be decoded.
    last_failure: Option<SymphoniaError>,
    interleaved: Vec<f32>,
    mono: Vec<f32>,
    ended: bool,
}

/// Samples that follow each other, of one rate.
#[derive(Debug)]
pub struct Block<'a> {
    /// Hz. It can change from one block to the next, where files were joined.
    pub sample_rate: u32,
    /// Mean of the channels; full scale is 1.0.
    pub samples: &'a [f32],
}

impl Decoder {
    /// Find the format by content, and the first audio track that can be decoded.
    pub fn open(bytes: Bytes, hint: &Hint) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Err(Error::Empty(
                "there are no bytes: send the content of an audio file".to_owned(),
            ));
        }
        let bytes = Arc::new(bytes);
        let reader = match read_header(Reader::whole(bytes.clone())) {
            Err(error) if !is_not_found(&error) => read_header(Reader::stream(bytes.clone())),
            result => result,
        }
        .map_err(|error| open_error(error, hint))?;
        let (track_id, decoder, format) = choose_track(reader.as_ref())?;
        Ok(Self {
            bytes: Some(bytes),
            reader,
            decoder,
            track_id,
            format,
            decoded_packets: 0,
            skipped_packets: 0,
            last_failure: None,
            interleaved: Vec::new(),
            mono: Vec::new(),
            ended: false,
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
        while !self.ended {
            let packet = match self.reader.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track_id => packet,
                Ok(Some(_)) => continue,
                Ok(None) => break,
                // A new chain of an Ogg file begins: its tracks replace the ones before.
                Err(SymphoniaError::ResetRequired) => {
                    (self.track_id, self.decoder, _) = choose_track(self.reader.as_ref())?;
                    continue;
                }
                // Every other error of a reader is final: the rest of the file is missing.
                Err(error) => {
                    if self.decoded_packets == 0 && self.restart_as_stream() {
                        continue;
                    }
                    if !is_end_of_file(&error) {
                        self.skip(error);
                    }
                    break;
                }
            };
            let failure = match self.decoder.decode(&packet) {
                Ok(buffer) if buffer.is_empty() => {
                    self.decoded_packets += 1;
                    continue;
                }
                Ok(buffer) => {
                    let sample_rate = buffer.spec().rate();
                    if SAMPLE_RATES.contains(&sample_rate) {
                        self.decoded_packets += 1;
                        let channels = buffer.num_planes();
                        buffer.copy_to_vec_interleaved(&mut self.interleaved);
                        mix(&self.interleaved, channels, &mut self.mono);
                        return Ok(Some(Block {
                            sample_rate,
                            samples: &self.mono,
                        }));
                    }
                    SymphoniaError::Unsupported("the sample rate is out of range")
                }
                Err(error) => error,
            };
            self.skip(failure);
        }
        self.ended = true;
        match self.last_failure.take() {
            Some(failure) if self.decoded_packets == 0 => Err(Error::Corrupt(format!(
                "not one packet of the {} audio can be decoded ({failure}): the file is damaged, send it again or {CONVERT}",
                self.format.codec
            ))),
            _ => Ok(None),
        }
    }

    /// Whether the file could be opened as a stream, which is tried once.
    fn restart_as_stream(&mut self) -> bool {
        let Some(bytes) = self.bytes.take() else {
            return false;
        };
        let Ok(reader) = read_header(Reader::stream(bytes)) else {
            return false;
        };
        let Ok((track_id, decoder, _)) = choose_track(reader.as_ref()) else {
            return false;
        };
        (self.reader, self.track_id, self.decoder) = (reader, track_id, decoder);
        true
    }

    fn skip(&mut self, failure: SymphoniaError) {
        self.skipped_packets = self.skipped_packets.saturating_add(1);
        self.last_failure = Some(failure);
    }
}

/// Find the container by content and read its header.
fn read_header(bytes: Reader) -> Result<Box<dyn FormatReader>, SymphoniaError> {
    let mut probe = Probe::new_with_options(&ProbeOptions {
        max_probe_depth: MAX_JUNK_BYTES,
        ..Default::default()
    });
    register_enabled_formats(&mut probe);
    let stream = MediaSourceStream::new(Box::new(bytes), Default::default());
    probe.probe(
        &ProbeHint::new(),
        stream,
        Default::default(),
        Default::default(),
    )
}

/// The first audio track that can be decoded, ready to be.
fn choose_track(reader: &dyn FormatReader) -> Result<(u32, Box<dyn AudioDecoder>, Format), Error> {
    let container = container_name(reader.format_info());
    let audio = || {
        reader
            .tracks()
            .iter()
            .filter_map(|track| Some((track, audio_parameters(track)?)))
    };
    let Some((track, parameters, codec)) = audio()
        .find_map(|(track, parameters)| Some((track, parameters, codec_name(parameters.codec)?)))
    else {
        return Err(Error::UnsupportedCodec(
            match audio().find(|(_, parameters)| parameters.codec != CODEC_ID_NULL_AUDIO) {
                Some((_, parameters)) => format!(
                    "the codec {} in {container} is not supported: {CONVERT}",
                    unsupported_codec_name(parameters.codec)
                ),
                None => {
                    format!("the {container} file has no audio track of a known codec: {CONVERT}")
                }
            },
        ));
    };
    let stated_channels = parameters
        .channels
        .as_ref()
        .map_or(1, |channels| channels.count() as u64);
    let packet_samples =
        stated_channels.saturating_mul(parameters.max_frames_per_packet.unwrap_or(1));
    if packet_samples > MAX_PACKET_SAMPLES {
        return Err(Error::Corrupt(format!(
            "the header states {packet_samples} samples a packet: the file is damaged, send it again or {CONVERT}"
        )));
    }
    let decoder = get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|error| {
            let what = format!("the {codec} audio in {container} cannot be decoded ({error})");
            match error {
                SymphoniaError::Unsupported(_) => {
                    Error::UnsupportedCodec(format!("{what}: {CONVERT}"))
                }
                _ => Error::Corrupt(format!(
                    "{what}: the file is damaged, send it again or {CONVERT}"
                )),
            }
        })?;
    // What the decoder found out is more than what the container says.
    let known = decoder.codec_params();
    let sample_rate = known.sample_rate.or(parameters.sample_rate).unwrap_or(0);
    let channels = known
        .channels
        .as_ref()
        .or(parameters.channels.as_ref())
        .map_or(0, |channels| channels.count() as u32);
    let format = Format {
        container,
        codec,
        sample_rate,
        channels,
        duration: stated_duration(track, sample_rate),
    };
    Ok((track.id, decoder, format))
}

fn audio_parameters(track: &Track) -> Option<&AudioCodecParameters> {
    match &track.codec_params {
        Some(CodecParameters::Audio(parameters)) => Some(parameters),
        _ => None,
    }
}

/// Length in seconds as the container states it, if it does.
fn stated_duration(track: &Track, sample_rate: u32) -> Option<f64> {
    match (track.num_frames, track.time_base, track.duration) {
        (Some(frames), _, _) if sample_rate > 0 => Some(frames as f64 / f64::from(sample_rate)),
        (_, Some(time_base), Some(duration)) => time_base
            .calc_duration(duration)
            .map(|time| time.as_secs_f64()),
        _ => None,
    }
}

fn open_error(error: SymphoniaError, hint: &Hint) -> Error {
    let bytes = format!("the bytes{}", hint.describe());
    match error {
        error if is_not_found(&error) => Error::NotAudio(format!(
            "{bytes} are not an audio file that is known: send WAV, AIFF, CAF, MP3, FLAC, Ogg Vorbis, M4A, AAC, \
             Matroska or WebM, or {CONVERT}"
        )),
        // A header that is missing is no feature: the file was cut off before it.
        SymphoniaError::Unsupported(feature) if !feature.contains("missing") => {
            Error::UnsupportedCodec(format!(
                "{bytes} need something that is not supported ({feature}): {CONVERT}"
            ))
        }
        error => Error::Corrupt(format!(
            "{bytes} begin like an audio file, but its header cannot be read ({error}): the file is damaged or cut \
             off, send it again or {CONVERT}"
        )),
    }
}

/// Whether the probe found no marker of a container within its reach. It has no case of its own for that.
fn is_not_found(error: &SymphoniaError) -> bool {
    matches!(
        error,
        SymphoniaError::Unsupported("core (probe): no suitable format reader found")
    )
}

fn is_end_of_file(error: &SymphoniaError) -> bool {
    matches!(error, SymphoniaError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof)
}

/// The mean of the channels of `interleaved`, made safe for what follows: finite, and of bounded magnitude.
fn mix(interleaved: &[f32], channels: usize, mono: &mut Vec<f32>) {
    let tame = |sample: f32| {
        if sample.is_nan() {
            0.0
        } else {
            sample.clamp(-MAX_SAMPLE, MAX_SAMPLE)
        }
    };
    mono.clear();
    match channels {
        0 => {}
        1 => mono.extend(interleaved.iter().map(|&sample| tame(sample))),
        2 => mono.extend(
            interleaved
                .chunks_exact(2)
                .map(|pair| 0.5 * (tame(pair[0]) + tame(pair[1]))),
        ),
        _ => {
            let scale = 1.0 / channels as f32;
            let sum = |frame: &[f32]| frame.iter().map(|&sample| tame(sample)).sum::<f32>();
            mono.extend(
                interleaved
                    .chunks_exact(channels)
                    .map(|frame| scale * sum(frame)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_takes_the_mean_of_the_channels() {
        let mut mono = Vec::new();
        mix(&[0.25, -0.5], 1, &mut mono);
        assert_eq!(mono, [0.25, -0.5]);
        mix(&[0.25, 0.75, -1.0, 0.0], 2, &mut mono);
        assert_eq!(mono, [0.5, -0.5]);
        mix(&[1.0, 0.0, 0.5, 0.5, 1.0, 1.0, 0.0, 0.0], 4, &mut mono);
        assert_eq!(mono, [0.5, 0.5]);
    }

    #[test]
    fn samples_that_are_no_numbers_become_silence_and_huge_ones_are_clamped() {
        let mut mono = Vec::new();
        mix(&[f32::NAN, f32::INFINITY, f32::MIN], 1, &mut mono);
        assert_eq!(mono, [0.0, MAX_SAMPLE, -MAX_SAMPLE]);
    }

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
