//! Every supported container and codec decodes to the clip it was generated from (formats.sh), and others are rejected by name.

mod common;

use audio::{Decoder, Error, Format, Frames, Hint};
use common::{CLIP, bytes, clip, correlation, data, samples_of};

/// The format of the file, and its samples at 16 kHz.
fn decode(name: &str) -> Result<(Format, Vec<f32>), Error> {
    let content = data(&format!("formats/{name}"));
    let format = Decoder::open(bytes(&content), &Hint::default())?
        .format()
        .clone();
    Ok((format, samples_of(&content)?))
}

struct Expected {
    file: &'static str,
    container: &'static str,
    codec: &'static str,
    sample_rate: u32,
    channels: u32,
}

const fn of(
    file: &'static str,
    container: &'static str,
    codec: &'static str,
    sample_rate: u32,
    channels: u32,
) -> Expected {
    Expected {
        file,
        container,
        codec,
        sample_rate,
        channels,
    }
}

#[test]
fn lossless_codecs_decode_to_identical_samples() {
    let clip = clip();
    for (expected, tolerance) in [
        (of("pcm_u8.wav", "wav", "pcm_u8", 16_000, 1), 1.0 / 128.0),
        (of("pcm_s16le.wav", "wav", "pcm_s16le", 16_000, 1), 0.0),
        (of("pcm_s24le.wav", "wav", "pcm_s24le", 16_000, 1), 0.0),
        (of("pcm_s32le.wav", "wav", "pcm_s32le", 16_000, 1), 0.0),
        (of("pcm_f32le.wav", "wav", "pcm_f32le", 16_000, 1), 0.0),
        (of("pcm_f64le.wav", "wav", "pcm_f64le", 16_000, 1), 0.0),
        (of("pcm_s16be.aiff", "aiff", "pcm_s16be", 16_000, 1), 0.0),
        (of("pcm_s16.caf", "caf", "pcm_s16le", 16_000, 1), 0.0),
        (of("alac.caf", "caf", "alac", 16_000, 1), 0.0),
        (of("alac.m4a", "mp4", "alac", 16_000, 1), 0.0),
        (of("flac.flac", "flac", "flac", 16_000, 1), 0.0),
        (of("flac.mkv", "mkv", "flac", 16_000, 1), 0.0),
        (of("flac.ogg", "ogg", "flac", 16_000, 1), 0.0),
        (of("pcm_s24be.mov", "mp4", "pcm_s24be", 16_000, 1), 0.0),
        (of("alac.mov", "mp4", "alac", 16_000, 1), 0.0),
        (of("pcm_s16le.w64", "w64", "pcm_s16le", 16_000, 1), 0.0),
    ] {
        let samples = check_format(&expected);
        let worst = samples
            .iter()
            .zip(&clip)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst <= tolerance, "{} is off by {worst}", expected.file);
        assert_eq!(samples.len(), CLIP, "{}", expected.file);
    }
}

#[test]
fn gsm_decoding_is_bit_exact() {
    let content = data("formats/gsm_loud.wav");
    let mut decoder = Decoder::open(bytes(&content), &Hint::default()).unwrap();
    let mut samples = Vec::new();
    while let Some(block) = decoder.next_block().unwrap() {
        samples.extend(
            block
                .samples
                .iter()
                .map(|sample| (sample * 32_768.0) as i16),
        );
    }
    let expected: Vec<_> = data("gsm_loud.s16")
        .chunks_exact(2)
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    assert!(samples == expected);
}

#[test]
fn lossy_codecs_decode_to_the_clip_with_the_expected_delay() {
    let clip = clip();
    // Minimum correlation, and maximum encoder delay in samples at the start: MP4, ADTS and
    // Matroska do not state, or symphonia does not read, how much to trim.
    for (expected, least, delay) in [
        (of("pcm_alaw.wav", "wav", "pcm_alaw", 16_000, 1), 0.999, 0),
        (of("pcm_mulaw.wav", "wav", "pcm_mulaw", 16_000, 1), 0.999, 0),
        (of("adpcm_ms.wav", "wav", "adpcm_ms", 16_000, 1), 0.98, 0),
        (
            of("adpcm_ima.wav", "wav", "adpcm_ima_wav", 16_000, 1),
            0.98,
            0,
        ),
        (of("aac.m4a", "mp4", "aac", 16_000, 1), 0.98, 0),
        (of("aac_faststart.m4a", "mp4", "aac", 16_000, 1), 0.98, 0),
        (of("aac_22050.aac", "adts", "aac", 22_050, 1), 0.98, 744),
        (of("mp3_44100_stereo.mp3", "mp3", "mp3", 44_100, 2), 0.98, 0),
        (of("mp3_vbr_tagged.mp3", "mp3", "mp3", 24_000, 1), 0.98, 0),
        (
            of("flac_48000_stereo.flac", "flac", "flac", 48_000, 2),
            0.999,
            0,
        ),
        (
            of("vorbis_44100_stereo.ogg", "ogg", "vorbis", 44_100, 2),
            0.98,
            0,
        ),
        (of("vorbis.webm", "mkv", "vorbis", 16_000, 1), 0.98, 0),
        (of("vorbis.mkv", "mkv", "vorbis", 16_000, 1), 0.98, 0),
        (of("pcm_mulaw.mov", "mp4", "pcm_mulaw", 16_000, 1), 0.999, 0),
        (of("pcm_mulaw.au", "au", "pcm_mulaw", 16_000, 1), 0.999, 0),
        (of("pcm_alaw.caf", "caf", "pcm_alaw", 16_000, 1), 0.999, 0),
        (of("ima4.mov", "mp4", "adpcm_ima_qt", 16_000, 1), 0.98, 0),
        (of("ima4.aiff", "aiff", "adpcm_ima_qt", 16_000, 1), 0.98, 0),
        (of("gsm.wav", "wav", "gsm_ms", 8_000, 1), 0.9, 0),
        (of("g722.wav", "wav", "g722", 16_000, 1), 0.99, 22),
        (
            of("adpcm_yamaha.wav", "wav", "adpcm_yamaha", 16_000, 1),
            0.98,
            0,
        ),
        // The beginning is not trimmed, so the whole encoder delay is there, unless its length is stated.
        (of("mp3.wav", "wav", "mp3", 16_000, 1), 0.98, 1105),
        (of("mp3.flv", "flv", "mp3", 22_050, 1), 0.98, 802),
        (of("aac.flv", "flv", "aac", 16_000, 1), 0.98, 1024),
        (of("mp3.avi", "avi", "mp3", 16_000, 1), 0.98, 1105),
        (of("mp3.ts", "mpegts", "mp3", 16_000, 1), 0.98, 1105),
        (of("aac.ts", "mpegts", "aac", 16_000, 1), 0.98, 1024),
        (of("mp3.mpg", "mpeg", "mp3", 16_000, 1), 0.98, 1105),
        (of("mp2.mp2", "mp2", "mp2", 16_000, 1), 0.98, 481),
        (
            of("pcm_24000_quad.wav", "wav", "pcm_s16le", 24_000, 4),
            0.999,
            0,
        ),
    ] {
        let samples = check_format(&expected);
        let best = (0..1200)
            .max_by(|&a, &b| {
                correlation(&samples, &clip, a).total_cmp(&correlation(&samples, &clip, b))
            })
            .unwrap();
        let reached = correlation(&samples, &clip, best);
        println!(
            "{}: correlation {reached:.4} at lag {best}, {} samples",
            expected.file,
            samples.len()
        );
        assert!(
            reached > least,
            "{}: correlation {reached} at lag {best}",
            expected.file
        );
        assert!(best.abs_diff(delay) <= 2, "{}: lag {best}", expected.file);
    }
}

/// Checks container, codec, rate, channels and length; returns the samples.
fn check_format(expected: &Expected) -> Vec<f32> {
    let name = expected.file;
    let (format, samples) = decode(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let Expected {
        container,
        codec,
        sample_rate,
        channels,
        ..
    } = *expected;
    let found = (
        format.container,
        format.codec,
        format.sample_rate,
        format.channels,
    );
    assert_eq!(found, (container, codec, sample_rate, channels), "{name}");
    // Lossy containers round up to whole packets: up to two of 1024 samples.
    assert!(
        samples.len().abs_diff(CLIP) < 2200,
        "{name}: {} samples",
        samples.len()
    );
    if let Some(duration) = format.duration {
        assert!((duration - 1.2).abs() < 0.14, "{name}: {duration} s");
    }
    samples
}

#[test]
fn joined_ogg_files_of_different_rates_are_decoded_in_order() {
    let mut frames = Frames::open(
        bytes(&data("formats/vorbis_chained.ogg")),
        &Hint::default(),
        80,
    )
    .unwrap();
    let mut count = 0;
    while let Some(block) = frames.read().unwrap() {
        count += block.len() / 80;
    }
    assert!(
        (frames.duration() - 2.4).abs() < 0.01,
        "{} s",
        frames.duration()
    );
    assert!(count.abs_diff(240) <= 1, "{count} frames");
}

#[test]
fn unsupported_codecs_are_rejected_by_name() {
    for (file, name) in [
        ("opus.ogg", "Opus"),
        ("opus.webm", "Opus"),
        ("ac3.mp4", "AC-3"),
    ] {
        match decode(file) {
            Err(Error::UnsupportedCodec(text)) => assert!(text.contains(name), "{file}: {text}"),
            other => panic!("{file}: {:?}", other.map(|(format, _)| format)),
        }
    }
}

#[test]
fn a_film_without_sound_has_no_audio_track() {
    assert!(matches!(
        decode("silent_film.mp4"),
        Err(Error::UnsupportedCodec(_))
    ));
}

#[test]
fn text_is_not_audio() {
    for file in ["picture.png", "text.txt"] {
        assert!(matches!(decode(file), Err(Error::NotAudio(_))), "{file}");
    }
}

#[test]
fn a_file_without_samples_is_empty() {
    let mut frames =
        Frames::open(bytes(&data("formats/no_samples.wav")), &Hint::default(), 80).unwrap();
    assert!(matches!(frames.read(), Err(Error::Empty(_))));
    assert!(matches!(frames.read(), Ok(None)));
}
