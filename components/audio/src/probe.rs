//! Track selection: the first track with a known codec that can be decoded.

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known::{CODEC_ID_AAC, CODEC_ID_VORBIS};
use symphonia::core::codecs::audio::{
    AudioCodecParameters, AudioDecoder, AudioDecoderOptions, CODEC_ID_NULL_AUDIO,
};
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::Track;
use symphonia::core::units::TimeBase;

use crate::codec::{codecs, vorbis};
use crate::container::{AacConfig, ContentEncoding, Edits, Opened};
use crate::error::{CONVERT, damaged, unsupported};
use crate::format::{codec_name, unsupported_codec_name};
use crate::{Error, Format};

/// Maximum samples per packet, for all channels. Decoders allocate what a header states before they see a packet; the
/// largest real one, a FLAC block of 65,535 samples in 8 channels, is an eighth of this.
const MAX_PACKET_SAMPLES: u64 = 1 << 22;

/// The selected track.
pub(crate) struct Chosen {
    pub id: u32,
    pub decoder: Box<dyn AudioDecoder>,
    pub format: Format,
    /// Encoding of its packets.
    pub encoding: ContentEncoding,
    /// Edit list, if not the whole track is played.
    pub edits: Option<Edits>,
    /// Time base of the packets; `None` for samples.
    pub time_base: Option<TimeBase>,
}

/// Selects the first audio track that can be decoded, and creates its decoder.
pub(crate) fn choose_track(opened: &Opened) -> Result<Chosen, Error> {
    let container = opened.container;
    let audio = || {
        opened
            .reader
            .tracks()
            .iter()
            .filter_map(|track| Some((track, audio_parameters(track)?)))
    };
    let mut failure = None;
    for (track, parameters) in audio() {
        let Some(codec) = codec_name(parameters.codec) else {
            continue;
        };
        let encoding = opened
            .tracks
            .iter()
            .find(|known| known.number == u64::from(track.id))
            .map_or(ContentEncoding::None, |known| known.encoding.clone());
        let edits = opened.edits.iter().find(|(number, _)| *number == track.id);
        let edits = edits.map(|(_, edits)| edits.clone());
        let chosen = match (encoding, &edits) {
            (ContentEncoding::Unsupported(name), _) => {
                Err(unsupported(&format!("{name} in {container}")))
            }
            (_, Some(Edits::Unsupported(name))) => {
                Err(unsupported(&format!("{name} in {container}")))
            }
            (encoding, _) => open_track(container, track, parameters, codec, encoding)
                .map(|chosen| Chosen { edits, ..chosen }),
        };
        match chosen {
            Ok(chosen) => return Ok(chosen),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| {
        let known = audio().find(|(_, parameters)| parameters.codec != CODEC_ID_NULL_AUDIO);
        let name = match known {
            Some((_, parameters)) => Some(unsupported_codec_name(parameters.codec)),
            None => opened.tracks.first().map(|track| track.codec.clone()),
        };
        match name {
            Some(name) => unsupported(&format!("the codec {name} in {container}")),
            None => Error::UnsupportedCodec(format!(
                "the {container} file has no audio track of a known codec: {CONVERT}"
            )),
        }
    }))
}

/// Creates the decoder of a track.
fn open_track(
    container: &'static str,
    track: &Track,
    parameters: &AudioCodecParameters,
    codec: &'static str,
    encoding: ContentEncoding,
) -> Result<Chosen, Error> {
    let core = core_of_aac(container, parameters)?;
    let parameters = core.as_ref().unwrap_or(parameters);
    let stated_channels = parameters
        .channels
        .as_ref()
        .map_or(1, |channels| channels.count() as u64);
    let packet_samples =
        stated_channels.saturating_mul(parameters.max_frames_per_packet.unwrap_or(1));
    if packet_samples > MAX_PACKET_SAMPLES {
        return Err(damaged(&format!(
            "the header states {packet_samples} samples per packet"
        )));
    }
    if parameters.codec == CODEC_ID_VORBIS
        && let Some(headers) = &parameters.extra_data
    {
        vorbis::check(headers)?;
    }
    let decoder = codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|error| {
            let what = format!("the {codec} audio in {container} cannot be decoded ({error})");
            match error {
                SymphoniaError::Unsupported(_) => {
                    Error::UnsupportedCodec(format!("{what}: {CONVERT}"))
                }
                _ => damaged(&what),
            }
        })?;
    // The decoder knows more than the container states.
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
    Ok(Chosen {
        id: track.id,
        decoder,
        format,
        encoding,
        edits: None,
        time_base: track.time_base,
    })
}

/// Parameters of the AAC LC core of a stream with explicit extensions, which the decoder would reject; `None` if there is nothing
/// to change. Errors are more precise than the decoder's.
fn core_of_aac(
    container: &str,
    parameters: &AudioCodecParameters,
) -> Result<Option<AudioCodecParameters>, Error> {
    if parameters.codec != CODEC_ID_AAC {
        return Ok(None);
    }
    let Some(extra) = &parameters.extra_data else {
        return match &parameters.channels {
            Some(channels) if channels.count() > 2 => Err(unsupported(&format!(
                "the codec AAC with {} channels in {container}",
                channels.count()
            ))),
            _ => Ok(None),
        };
    };
    let config = AacConfig::read(extra)?;
    config.check(container)?;
    Ok(config.is_extended.then(|| {
        let mut core = parameters.clone();
        core.with_extra_data(config.core())
            .with_sample_rate(config.sample_rate);
        core
    }))
}

fn audio_parameters(track: &Track) -> Option<&AudioCodecParameters> {
    match &track.codec_params {
        Some(CodecParameters::Audio(parameters)) => Some(parameters),
        _ => None,
    }
}

/// Length in seconds, if the container states it.
fn stated_duration(track: &Track, sample_rate: u32) -> Option<f64> {
    match (track.num_frames, track.time_base, track.duration) {
        (Some(frames), _, _) if sample_rate > 0 => Some(frames as f64 / f64::from(sample_rate)),
        (_, Some(time_base), Some(duration)) => time_base
            .calc_duration(duration)
            .map(|time| time.as_secs_f64()),
        _ => None,
    }
}
