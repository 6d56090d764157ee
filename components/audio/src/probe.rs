//! What a file is and which of its tracks is decoded: the container by content, the first track of a known codec that can be
//! decoded.

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
use crate::{Error, Format, Hint};

/// Samples of one packet, of all channels together. Decoders allocate what a header states before they see a packet; the
/// largest that is real, a FLAC block of 65,535 samples in 8 channels, is an eighth of this.
const MAX_PACKET_SAMPLES: u64 = 1 << 22;

/// What can be done about a file that cannot be read; the end of several messages.
pub(crate) const CONVERT: &str = "convert it, e.g. with `ffmpeg -i INPUT output.wav`";

/// Find the container by content, behind at most `max_junk` bytes that are none, and read its header.
pub(crate) fn read_header(
    bytes: Reader,
    max_junk: u32,
) -> Result<Box<dyn FormatReader>, SymphoniaError> {
    let mut probe = Probe::new_with_options(&ProbeOptions {
        max_probe_depth: max_junk,
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
pub(crate) fn choose_track(
    reader: &dyn FormatReader,
) -> Result<(u32, Box<dyn AudioDecoder>, Format), Error> {
    let container = container_name(reader.format_info());
    let audio = || {
        reader
            .tracks()
            .iter()
            .filter_map(|track| Some((track, audio_parameters(track)?)))
    };
    let mut failure = None;
    for (track, parameters) in audio() {
        let Some(codec) = codec_name(parameters.codec) else {
            continue;
        };
        match open_track(container, track, parameters, codec) {
            Ok(opened) => return Ok(opened),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| {
        Error::UnsupportedCodec(
            match audio().find(|(_, parameters)| parameters.codec != CODEC_ID_NULL_AUDIO) {
                Some((_, parameters)) => format!(
                    "the codec {} in {container} is not supported: {CONVERT}",
                    unsupported_codec_name(parameters.codec)
                ),
                None => {
                    format!("the {container} file has no audio track of a known codec: {CONVERT}")
                }
            },
        )
    }))
}

/// One track, ready to be decoded.
fn open_track(
    container: &'static str,
    track: &Track,
    parameters: &AudioCodecParameters,
    codec: &'static str,
) -> Result<(u32, Box<dyn AudioDecoder>, Format), Error> {
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
    // Two kinds of damage in a Vorbis set-up header make symphonia-codec-vorbis 0.6.1 panic, which costs the request: a
    // codebook whose ascending code lengths pass 32 bits (here), and a floor with a second point at 0 (when a packet is
    // decoded). To find them beforehand, all codebooks would have to be parsed bit by bit as symphonia does. They are
    // rare: none in 12,000 headers with random bits flipped; and in Ogg the page's checksum catches damage first.
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

/// What to tell the sender of a file whose header cannot be read.
pub(crate) fn open_error(error: SymphoniaError, hint: &Hint) -> Error {
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
pub(crate) fn is_not_found(error: &SymphoniaError) -> bool {
    matches!(
        error,
        SymphoniaError::Unsupported("core (probe): no suitable format reader found")
    )
}
