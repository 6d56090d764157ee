//! Concatenated files (`cat a.mp3 b.mp3`), and WAV files whose header does not state the length, are decoded to the end.

mod common;

use audio::{Decoder, Error, Hint};
use common::{CLIP, bytes, clip, correlation, data, samples_of};

fn format(name: &str) -> Vec<u8> {
    data(&format!("formats/{name}"))
}

/// Asserts that the clip occurs at each of the times, in samples; up to 0.1 s later per preceding joint.
fn assert_clip_at(samples: &[f32], times: &[usize], what: &str) {
    let clip = clip();
    let slack = |joint: usize| 1_600 * (joint + 1);
    for (joint, &time) in times.iter().enumerate() {
        let best = (0..slack(joint))
            .map(|lag| correlation(samples, &clip[..CLIP - 2_000], time + lag))
            .fold(0.0, f64::max);
        assert!(best > 0.95, "{what}, part {joint}: correlation {best}");
    }
}

fn assert_joined(files: &[&str]) {
    let content: Vec<u8> = files.iter().flat_map(|file| format(file)).collect();
    let what = files.join(" + ");
    let samples = samples_of(&content).unwrap_or_else(|error| panic!("{what}: {error}"));
    let count = files.len();
    println!("{what}: {} samples for {count} parts", samples.len());
    assert!(
        samples.len().abs_diff(CLIP * count) <= 1_600 * count,
        "{what}: {} samples",
        samples.len()
    );
    let times: Vec<usize> = (0..count).map(|part| part * CLIP).collect();
    assert_clip_at(&samples, &times, &what);
}

#[test]
fn joined_mp3_files_are_decoded_completely() {
    assert_joined(&["mp3_44100_stereo.mp3"; 2]);
    assert_joined(&["mp3_44100_stereo.mp3"; 5]);
    // With a tag at both ends, and another rate.
    assert_joined(&["mp3_vbr_tagged.mp3"; 3]);
    assert_joined(&["mp3_vbr_tagged.mp3", "mp3_44100_stereo.mp3"]);
}

/// Samples of `mp3_vbr_bare.mp3`: the clip, two seconds of silence, and the encoder's padding at both ends.
const BARE: std::ops::Range<usize> = CLIP + 32_000..CLIP + 32_000 + 2_400;

#[test]
fn mp3_frames_without_a_header_are_decoded_after_a_file_with_one() {
    let content = [format("mp3_vbr_tagged.mp3"), format("mp3_vbr_bare.mp3")].concat();
    let samples = samples_of(&content).unwrap();
    assert_clip_at(&samples, &[0, CLIP], "with and without a header");
    assert!(
        BARE.contains(&(samples.len() - CLIP)),
        "{} samples",
        samples.len()
    );
}

#[test]
fn an_mp3_file_without_a_header_is_decoded_to_the_end_regardless_of_the_estimated_length() {
    let samples = samples_of(&format("mp3_vbr_bare.mp3")).unwrap();
    assert_clip_at(&samples, &[0], "without a header");
    assert!(BARE.contains(&samples.len()), "{} samples", samples.len());
}

#[test]
fn joined_flac_files_decode_to_identical_samples() {
    let clip = clip();
    let file = format("flac.flac");
    for count in 2..5 {
        let samples = samples_of(&file.repeat(count)).unwrap();
        assert!(samples == clip.repeat(count), "{count} parts");
    }
    assert_joined(&["flac_48000_stereo.flac", "flac.flac"]);
}

#[test]
fn joined_wav_files_decode_to_identical_samples_even_if_the_last_has_no_length() {
    let clip = clip();
    let file = format("pcm_s16le.wav");
    for last in [
        file.clone(),
        wav_that_states(u32::MAX, u32::MAX),
        wav_that_states(0, 0),
    ] {
        let samples = samples_of(&[&file[..], &file, &last].concat()).unwrap();
        assert!(samples == clip.repeat(3), "{} samples", samples.len());
    }
    assert_joined(&["pcm_24000_quad.wav", "pcm_f32le.wav", "pcm_alaw.wav"]);
}

#[test]
fn mp3_of_another_rate_is_decoded_after_frames_without_a_header() {
    let files = ["mp3_vbr_bare.mp3", "mp3_44100_stereo.mp3"];
    let samples = samples_of(&files.map(format).concat()).unwrap();
    assert_clip_at(&samples, &[0, CLIP + 32_000], "another rate");
}

/// Bytes of the frame at `at`, which are in 13 bits after the first six of the fourth byte (ISO/IEC 13818-7, 6.2).
fn adts_frame_length(content: &[u8], at: usize) -> usize {
    let bits = |index: usize| usize::from(content[at + index]);
    (bits(3) & 3) << 11 | bits(4) << 3 | bits(5) >> 5
}

#[test]
fn decoding_continues_after_a_damaged_adts_header() {
    let mut content = format("aac_22050.aac");
    let count = |content: &[u8]| {
        let mut decoder = Decoder::open(bytes(content), &Hint::default()).unwrap();
        let mut samples = 0;
        while let Some(block) = decoder.next_block().unwrap() {
            assert_eq!(block.sample_rate, 22_050);
            samples += block.samples.len();
        }
        (samples, decoder.skipped_packets())
    };
    let (whole, none) = count(&content);
    assert_eq!(none, 0);
    let third = (0..3).fold(0, |at, _| at + adts_frame_length(&content, at));
    // An invalid sample rate; another one.
    for rate in [0b0011_1100, 0b0001_0000] {
        let byte = content[third + 2];
        content[third + 2] = byte & !0b0011_1100 | rate;
        let (heard, skipped) = count(&content);
        assert!(skipped > 0);
        // The rest of the frame may look like one or two more; no more is lost.
        assert!(
            heard < whole && heard + 4 * 1024 > whole,
            "{heard} of {whole}"
        );
        content[third + 2] = byte;
    }
}

#[test]
fn a_joined_file_of_an_unsupported_codec_is_refused_by_name() {
    // Three bits across the third and fourth byte state the channels (ISO/IEC 13818-7, 6.2); 6 is 5.1.
    let mut surround = format("aac_22050.aac");
    let mut at = 0;
    while at < surround.len() {
        let length = adts_frame_length(&surround, at);
        surround[at + 2] |= 1;
        surround[at + 3] = surround[at + 3] & 0x3f | 0x80;
        at += length;
    }
    let aac = format("aac_22050.aac");
    for (content, name) in [
        ([&aac[..], &surround, &aac].concat(), "AAC with 6 channels"),
        ([format("flac.ogg"), format("opus.ogg")].concat(), "Opus"),
    ] {
        match samples_of(&content) {
            Err(Error::UnsupportedCodec(text)) => assert!(text.contains(name), "{text}"),
            other => panic!("{name}: {:?}", other.map(|samples| samples.len())),
        }
    }
}

#[test]
fn joined_ogg_and_adts_files_are_decoded_completely() {
    assert_joined(&["vorbis_44100_stereo.ogg"; 3]);
    assert_joined(&["flac.ogg"; 2]);
    assert_joined(&["aac_22050.aac"; 3]);
}

#[test]
fn aac_of_another_rate_and_other_channels_is_decoded() {
    let (mono, stereo) = ("aac_22050.aac", "aac_44100_stereo.aac");
    assert_joined(&[mono, stereo, mono]);
    assert_joined(&[stereo, mono]);
    assert_joined(&["aac.ts", "aac_44100_stereo.ts", "aac.ts"]);
}

/// The 16-bit WAV file of the clip with other lengths in its header.
fn wav_that_states(riff: u32, samples: u32) -> Vec<u8> {
    let mut file = format("pcm_s16le.wav");
    let data = file.windows(4).position(|name| name == b"data").unwrap();
    file[4..8].copy_from_slice(&riff.to_le_bytes());
    file[data + 4..data + 8].copy_from_slice(&samples.to_le_bytes());
    file
}

#[test]
fn a_wav_file_without_a_length_is_decoded_to_the_end() {
    let clip = clip();
    let bytes = 2 * CLIP as u32;
    for (riff, data) in [
        // ffmpeg to a pipe.
        (u32::MAX, u32::MAX),
        // Others to a pipe, and interrupted recorders.
        (0, 0),
        (36, 0),
        (70, 0),
        (u32::MAX, 0),
        (0x7fff_f024, 0x7fff_f000),
        (0x8000_0024, 0x8000_0000),
        (36, bytes),
        (0, bytes),
        (bytes + 70, bytes + 1_000),
        (bytes + 1_036, bytes + 1_000),
    ] {
        let samples = samples_of(&wav_that_states(riff, data))
            .unwrap_or_else(|error| panic!("{riff}, {data}: {error}"));
        assert!(samples == clip, "{riff}, {data}: {} samples", samples.len());
    }
}

#[test]
fn a_data_chunk_shorter_than_the_file_is_trusted() {
    let mut file = wav_that_states(2 * CLIP as u32 + 70, 2_000);
    file.truncate(file.len() - 1);
    assert_eq!(samples_of(&file).unwrap(), clip()[..1_000]);
}
