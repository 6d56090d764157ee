//! Supported codecs: symphonia's, and telephony codecs that it lacks.

mod decoder;
mod g722;
mod gsm;
pub(crate) mod vorbis;
mod yamaha;

use std::sync::OnceLock;

use symphonia::core::codecs::registry::CodecRegistry;
use symphonia::default::register_enabled_codecs;

use decoder::Decoder;
pub(crate) use gsm::CODEC_ID_GSM_MS;
pub(crate) use yamaha::CODEC_ID_YAMAHA;

/// All supported codecs.
pub(crate) fn codecs() -> &'static CodecRegistry {
    static CODECS: OnceLock<CodecRegistry> = OnceLock::new();
    CODECS.get_or_init(|| {
        let mut registry = CodecRegistry::new();
        register_enabled_codecs(&mut registry);
        registry.register_audio_decoder::<Decoder<g722::G722>>();
        registry.register_audio_decoder::<Decoder<gsm::MsGsm>>();
        registry.register_audio_decoder::<Decoder<yamaha::Yamaha>>();
        registry
    })
}
