//! What a file is and which of its tracks is decoded: the container by content, the first track of a known codec that can be
//! decoded.

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

/// Samples of one packet, of all channels together. Decoders allocate what a header states before they see a packet; the
/// largest that is real, a FLAC block of 65,535 samples in 8 channels, is an eighth of this.
const MAX_PACKET_SAMPLES: u64 = 1 << 22;

/// A track that is decoded.
pub(crate) struct Chosen {
    pub id: u32,
    pub decoder: Box<dyn AudioDecoder>,
    pub format: Format,
    /// How its packets are encoded.
    pub encoding: ContentEncoding,
    /// What of it is played, if not all.
    pub edits: Option<Edits>,
    /// What the packets' times count in; none: in samples.
    pub time_base: Option<TimeBase>,
}

/// The first audio track that can be decoded, ready to be.
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

/// One track, ready to be decoded.
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
            "the header states {packet_samples} samples a packet"
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
    Ok(Chosen {
        id: track.id,
        decoder,
        format,
        encoding,
        edits: None,
        time_base: track.time_base,
    })
}

/// Parameters of the AAC LC core of a stream with explicit extensions, which the decoder would refuse; none if there is nothing to
/// change. Refuses what cannot be decoded by a more precise name than the decoder's.
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
                "the codec AAC of {} channels in {container}",
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
