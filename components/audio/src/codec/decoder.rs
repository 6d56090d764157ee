//! The trait for our own codecs, and its adapter to symphonia's trait.

use symphonia::core::audio::{
    AsGenericAudioBufferRef, Audio, AudioBuffer, AudioMut, AudioSpec, GenericAudioBufferRef,
};
use symphonia::core::codecs::CodecInfo;
use symphonia::core::codecs::audio::{
    AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions, FinalizeResult,
};
use symphonia::core::codecs::registry::{RegisterableAudioDecoder, SupportedAudioCodec};
use symphonia::core::errors::{Error, Result};
use symphonia::core::packet::PacketRef;

/// A decoder to 16-bit samples.
pub(super) trait Codec: Send + Sync + Sized + 'static {
    /// Identifier and names; exactly one.
    const SUPPORTED: &'static [SupportedAudioCodec];

    /// A decoder at the start of a stream. The container has validated the number of channels.
    fn new(channels: usize) -> Self;

    /// Decodes whole blocks and appends the interleaved samples.
    fn decode(&mut self, blocks: &[u8], samples: &mut Vec<i16>);
}

/// Adapts a [`Codec`] to symphonia's trait.
pub(super) struct Decoder<C> {
    codec: C,
    parameters: AudioCodecParameters,
    interleaved: Vec<i16>,
    buffer: AudioBuffer<i16>,
}

impl<C: Codec> RegisterableAudioDecoder for Decoder<C> {
    fn try_registry_new(
        parameters: &AudioCodecParameters,
        _: &AudioDecoderOptions,
    ) -> Result<Box<dyn AudioDecoder>> {
        let (Some(rate), Some(channels)) = (parameters.sample_rate, &parameters.channels) else {
            return Err(Error::Unsupported("unknown sample rate or channels"));
        };
        let spec = AudioSpec::new(rate, channels.clone());
        Ok(Box::new(Self {
            codec: C::new(channels.count()),
            parameters: parameters.clone(),
            interleaved: Vec::new(),
            buffer: AudioBuffer::new(spec, 0),
        }))
    }

    fn supported_codecs() -> &'static [SupportedAudioCodec] {
        C::SUPPORTED
    }
}

impl<C: Codec> AudioDecoder for Decoder<C> {
    fn reset(&mut self) {
        self.codec = C::new(self.buffer.spec().channels().count());
    }

    fn codec_info(&self) -> &CodecInfo {
        &C::SUPPORTED[0].info
    }

    fn codec_params(&self) -> &AudioCodecParameters {
        &self.parameters
    }

    fn decode_ref(&mut self, packet: &PacketRef<'_>) -> Result<GenericAudioBufferRef<'_>> {
        self.interleaved.clear();
        self.codec.decode(packet.data, &mut self.interleaved);
        let channels = self.buffer.spec().channels().count();
        let frames = self.interleaved.len() / channels.max(1);
        self.buffer.clear();
        self.buffer.grow_capacity(frames);
        self.buffer.render_uninit(Some(frames));
        for (channel, plane) in self.buffer.iter_planes_mut().enumerate() {
            let samples = self.interleaved.iter().skip(channel).step_by(channels);
            for (place, sample) in plane.iter_mut().zip(samples) {
                *place = *sample;
            }
        }
        Ok(self.buffer.as_generic_audio_buffer_ref())
    }

    fn finalize(&mut self) -> FinalizeResult {
        FinalizeResult::default()
    }

    fn last_decoded(&self) -> GenericAudioBufferRef<'_> {
        self.buffer.as_generic_audio_buffer_ref()
    }
}

/// Clamps to 16 bits.
pub(super) fn saturate(sample: i32) -> i16 {
    sample.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

/// An entry of symphonia's registry.
pub(super) const fn supported(
    id: AudioCodecId,
    name: &'static str,
    long: &'static str,
) -> SupportedAudioCodec {
    SupportedAudioCodec {
        id,
        info: CodecInfo {
            short_name: name,
            long_name: long,
            profiles: &[],
        },
    }
}
