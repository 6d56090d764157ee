//! Format of a file: the names of containers and codecs used in the interface.

use symphonia::core::codecs::audio::{AudioCodecId, CODEC_ID_NULL_AUDIO, well_known as codecs};
use symphonia::core::formats::{FormatInfo, well_known as containers};

use crate::codec::codecs as registry;

/// What the sender says about the bytes. The format is detected by content; this only makes error messages clearer.
#[derive(Debug, Clone, Default)]
pub struct Hint {
    /// Media type, e.g. `audio/mpeg`.
    pub media_type: Option<String>,
    /// File name, e.g. `test.mp3`.
    pub file_name: Option<String>,
}

impl Hint {
    /// Description of the bytes, to follow "the bytes": ` of "a.txt" (text/plain)`, or empty.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        if let Some(name) = &self.file_name {
            text.push_str(&format!(" of {name:?}"));
        }
        if let Some(media_type) = &self.media_type {
            text.push_str(&format!(" ({media_type})"));
        }
        text
    }
}

/// Format of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Format {
    /// Short name of the container: `wav`, `mp3`, `flac`, `ogg`, `mp4`, `aiff`, `caf`, `mkv`, `adts`, …
    pub container: &'static str,
    /// Short name of the codec: `pcm_s16le`, `mp3`, `flac`, `vorbis`, `aac`, `alac`, …
    pub codec: &'static str,
    /// Hz, before resampling.
    pub sample_rate: u32,
    /// Channels, before mixing to mono.
    pub channels: u32,
    /// Length in seconds, if the container states it.
    pub duration: Option<f64>,
}

/// Short name of a container; symphonia's unless another one is common.
pub(crate) fn container_name(info: &FormatInfo) -> &'static str {
    match info.format {
        containers::FORMAT_ID_ISOMP4 => "mp4",
        containers::FORMAT_ID_MKV => "mkv",
        _ => info.short_name,
    }
}

/// Short name of a codec that can be decoded.
pub(crate) fn codec_name(id: AudioCodecId) -> Option<&'static str> {
    registry()
        .get_audio_decoder(id)
        .map(|decoder| decoder.codec.info.short_name)
}

/// Usual name of a codec that cannot be decoded.
pub(crate) fn unsupported_codec_name(id: AudioCodecId) -> String {
    let name = match id {
        codecs::CODEC_ID_OPUS => "Opus",
        codecs::CODEC_ID_SPEEX => "Speex",
        codecs::CODEC_ID_MUSEPACK => "Musepack",
        codecs::CODEC_ID_MP1 => "MPEG Layer 1",
        codecs::CODEC_ID_MP2 => "MPEG Layer 2",
        codecs::CODEC_ID_AC3 => "AC-3",
        codecs::CODEC_ID_EAC3 => "Enhanced AC-3",
        codecs::CODEC_ID_AC4 => "AC-4",
        codecs::CODEC_ID_DCA => "DTS",
        codecs::CODEC_ID_WMA => "Windows Media Audio",
        codecs::CODEC_ID_WAVPACK => "WavPack",
        codecs::CODEC_ID_MONKEYS_AUDIO => "Monkey's Audio",
        codecs::CODEC_ID_TTA => "True Audio",
        codecs::CODEC_ID_TRUEHD => "Dolby TrueHD",
        codecs::CODEC_ID_ADPCM_G722 => "G.722 ADPCM",
        codecs::CODEC_ID_ADPCM_G726 | codecs::CODEC_ID_ADPCM_G726LE => "G.726 ADPCM",
        CODEC_ID_NULL_AUDIO => "unknown",
        other => return format!("{other}"),
    };
    name.to_owned()
}
