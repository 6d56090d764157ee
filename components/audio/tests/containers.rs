//! Common containers and codecs: supported ones decode to the recording, and unsupported ones are rejected by name.
//! `matrix/` has many more, and needs ffmpeg to generate them.

mod common;
#[path = "matrix/make.rs"]
mod make;

use audio::{Decoder, Error, Hint};
use common::{bytes, clip, correlation, data, samples_of};
use make::{MATROSKA_FRAME, Packed};

fn file(name: &str) -> Vec<u8> {
    data(&format!("formats/{name}"))
}

/// Asserts that the file decodes to the recording, within rounding to 16 bits.
fn assert_is_speech(content: &[u8], what: &str) {
    let samples = samples_of(content).unwrap_or_else(|error| panic!("{what}: {error}"));
    let speech = make::samples();
    assert_eq!(samples.len(), speech.len(), "{what}");
    for (at, (decoded, original)) in samples.iter().zip(speech).enumerate() {
        let off = (decoded - original).abs();
        assert!(off < 1.0 / 32_768.0, "{what}: off by {off} at {at}");
    }
}

/// Asserts that the file decodes to the clip, delayed by `delay` samples at 16 kHz.
fn assert_is_clip(content: &[u8], delay: usize, what: &str) {
    let samples = samples_of(content).unwrap_or_else(|error| panic!("{what}: {error}"));
    let clip = clip();
    let best = (0..3_000.min(samples.len()))
        .max_by(|&a, &b| {
            correlation(&samples, &clip, a).total_cmp(&correlation(&samples, &clip, b))
        })
        .unwrap();
    let reached = correlation(&samples, &clip, best);
    assert!(reached > 0.95, "{what}: correlation {reached} at {best}");
    assert!(best.abs_diff(delay) <= 2, "{what}: lag {best}");
}

fn refusal(content: &[u8]) -> Error {
    match samples_of(content) {
        Ok(samples) => panic!("{} samples", samples.len()),
        Err(error) => error,
    }
}

fn assert_refused(content: &[u8], name: &str) {
    match refusal(content) {
        Error::UnsupportedCodec(text) => assert!(
            text.contains(name) && text.contains(" is not supported: convert it"),
            "{name}: {text}"
        ),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn mpeg_frames_after_the_signature_of_another_container_are_not_decoded() {
    let frames = file("mp3_vbr_bare.mp3");
    for (mark, name) in [
        (&b"#!AMR\n"[..], "AMR"),
        (b"#!AMR-WB\n", "AMR-WB"),
        (b"#!SILK_V3", "SILK"),
        (b"\x0b\x77\x12\x34\x14\x40", "AC-3"),
        (b"\x7f\xfe\x80\x01", "DTS"),
        (b"\0\0\0\0\xf8\x72\x6f\xba", "Dolby TrueHD"),
        (b"wvpk", "WavPack"),
        (b"TTA1", "True Audio"),
        (b"MAC ", "Monkey's Audio"),
        (b"MPCK", "Musepack"),
        (b"OFR ", "OptimFROG"),
        (b"ajkg", "Shorten"),
        (b"DSD ", "DSF"),
        (b"FRM8", "DSDIFF"),
        (b"ea3\x03", "ATRAC"),
        (b".RMF", "RealMedia"),
        (b".ra\xfd", "RealAudio"),
        (b"Creative Voice File\x1a", "Creative Voice"),
        (b"NIST_1A\n", "NIST SPHERE"),
        (b"MThd", "MIDI"),
        (b"RIFF\0\0\0\0QLCMfmt ", "QCELP"),
        (b"FORM\0\0\0\08SVX", "8SVX"),
        (
            b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",
            "Windows Media",
        ),
        (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "MXF"),
        (b"\0\0\x01\xb3", "MPEG video"),
    ] {
        assert_refused(&[mark, &frames].concat(), name);
    }
}

#[test]
fn parts_removed_by_an_edit_list_are_not_played() {
    for name in ["pcm_s24be.mov", "alac.m4a", "aac.m4a", "ima4.mov"] {
        let of = |edits: &[(u32, i32)]| samples_of(&make::with_edits(file(name), edits)).unwrap();
        // A length of 0 means the rest of the file.
        let whole = of(&[(0, 0)]);
        assert!(whole.len() >= 19_200, "{name}");
        // An edit may last a millisecond longer: its length was rounded.
        let end = |milliseconds: usize| milliseconds * 16 + 16;
        assert_eq!(
            of(&[(500, 4_000)]),
            whole[4_000..4_000 + end(500)],
            "{name}"
        );
        // A pause before the track has no sound, and adjacent parts are merged.
        let parts = of(&[(300, -1), (100, 1_600), (200, 8_000), (100, 11_200)]);
        let kept = [
            &whole[1_600..1_600 + end(100)],
            &whole[8_000..11_200 + end(100)],
        ]
        .concat();
        assert_eq!(parts, kept, "{name}");
        assert_refused(
            &make::with_edits(file(name), &[(100, 8_000), (100, 0)]),
            "an edit list that repeats or reorders parts of a recording in mp4",
        );
        // An edit without a length plays nothing, unless it is the last.
        assert_eq!(
            of(&[(200, 1_600), (0, 6_400), (100, 11_200)]),
            [
                &whole[1_600..1_600 + end(200)],
                &whole[11_200..11_200 + end(100)]
            ]
            .concat(),
            "{name}"
        );
        let many = |distance: i32| (0..5_000).map(|n| (1, n * distance)).collect::<Vec<_>>();
        assert_eq!(of(&many(3)), whole[..4_999 * 3 + end(1)], "{name}");
        assert_refused(
            &make::with_edits(file(name), &many(40)),
            "an edit list with more than 4096 parts in mp4",
        );
    }
}

#[test]
fn files_that_are_not_audio_are_named() {
    let frames = file("mp3_vbr_bare.mp3");
    for (mark, name) in [
        (&b"PK\x03\x04"[..], "a ZIP archive"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"\xff\xd8\xff\xe0", "a JPEG picture"),
        (b"\x7fELF", "a program"),
    ] {
        match refusal(&[mark, &frames].concat()) {
            Error::NotAudio(text) => assert!(text.contains(name), "{name}: {text}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn the_error_for_an_unsupported_container_names_the_file() {
    let hint = Hint {
        media_type: None,
        file_name: Some("call.amr".to_owned()),
    };
    let Err(error) = Decoder::open(bytes(&make::amr()), &hint) else {
        panic!("AMR was opened");
    };
    assert_eq!(
        error.to_string(),
        "the bytes of \"call.amr\" are AMR, which is not supported: convert it, e.g. with `ffmpeg -i INPUT output.wav`"
    );
}

#[test]
fn unknown_codecs_of_ogg_are_refused_by_name() {
    for (first, name) in [
        (&b"Speex   1.2"[..], "Speex"),
        (b"\x80theora", "Theora"),
        (b"CELT    ", "CELT"),
    ] {
        assert_refused(&make::ogg(first), name);
    }
}

#[test]
fn content_encodings_of_matroska_are_decoded() {
    let mut expected = make::samples();
    for frame in expected.chunks_mut(MATROSKA_FRAME) {
        frame[0] = 0.0;
    }
    for packed in [Packed::Stripped, Packed::Zlib] {
        let samples = samples_of(&make::matroska(packed)).unwrap();
        assert!(samples == expected, "{} samples", samples.len());
    }
    assert_refused(&make::matroska(Packed::By(1)), "bzip2 compression in mkv");
    assert_refused(&make::matroska(Packed::By(2)), "LZO compression in mkv");
}

#[test]
fn truncated_matroska_keeps_its_content_encoding() {
    for packed in [Packed::Stripped, Packed::Zlib] {
        let content = make::matroska(packed);
        let whole = samples_of(&content).unwrap();
        for end in (content.len() / 3..content.len()).step_by(1_001) {
            let samples = samples_of(&content[..end]).unwrap();
            assert!(
                !samples.is_empty() && whole.starts_with(&samples),
                "cut at {end}"
            );
        }
    }
}

#[test]
fn layer_1_is_decoded() {
    // 128 kbit/s, 44.1 kHz, mono: 34 slots of four bytes. No sub-band has bits, so the frame is silent.
    let mut frame = b"\xff\xff\x40\xc0".to_vec();
    frame.resize(4 * 34, 0);
    let content = frame.repeat(20);
    let decoder = Decoder::open(bytes(&content), &Hint::default()).unwrap();
    let format = decoder.format();
    assert_eq!((format.container, format.codec), ("mp1", "mp1"));
    let samples = samples_of(&content).unwrap();
    let expected = 20 * 384 * 16_000 / 44_100;
    assert!(samples.len().abs_diff(expected) < 200, "{}", samples.len());
}

#[test]
fn quicktime_without_a_file_type_is_recognised() {
    for name in [b"skip", b"mdat", b"wide"] {
        let mut content = file("pcm_s24be.mov");
        content[4..8].copy_from_slice(name);
        assert!(samples_of(&content).unwrap() == clip());
    }
}

#[test]
fn a_damaged_zlib_frame_of_matroska_is_skipped() {
    let mut content = make::matroska(Packed::Zlib);
    let end = content.len() - 20;
    content[end..].fill(0);
    let mut decoder = Decoder::open(bytes(&content), &Hint::default()).unwrap();
    let mut samples = 0;
    while let Some(block) = decoder.next_block().unwrap() {
        samples += block.samples.len();
    }
    assert_eq!(samples, make::samples().len() - MATROSKA_FRAME);
    assert_eq!(decoder.skipped_packets(), 1);
}

#[test]
fn wav_is_read_with_all_header_variants() {
    for (content, what) in [
        (make::rf64(), "RF64"),
        (make::rifx(), "RIFX"),
        (make::odd_chunk(), "an odd chunk"),
        (
            make::odd_chunk_without_padding(),
            "an odd chunk without padding",
        ),
        (make::no_lengths(make::odd_chunk()), "lengths of 0"),
        (make::wide_high(), "24 bits in four bytes, high bits"),
        (make::wide_low(), "24 bits in four bytes, low bits"),
    ] {
        assert_is_speech(&content, what);
    }
    assert_refused(&make::cool_edit(), "24-bit PCM in floating point");
}

#[test]
fn g711_in_wav_is_read_regardless_of_the_stated_bit_depth() {
    for name in ["pcm_alaw.wav", "pcm_mulaw.wav"] {
        let plain = samples_of(&file(name)).unwrap();
        for change in [make::short_g711_header, make::extensible_g711_header] {
            assert!(samples_of(&change(file(name))).unwrap() == plain, "{name}");
        }
    }
}

#[test]
fn unknown_lengths_mean_the_rest_of_the_file() {
    for (name, change) in [
        (
            "pcm_s16be.aiff",
            make::no_aiff_lengths as fn(Vec<u8>) -> Vec<u8>,
        ),
        ("ima4.aiff", make::no_aiff_lengths),
        ("pcm_mulaw.au", make::no_au_length),
        ("pcm_alaw.caf", make::no_caf_length),
        ("pcm_s16.caf", make::no_caf_length),
        ("gsm.wav", make::no_lengths),
    ] {
        let whole = samples_of(&file(name)).unwrap();
        let samples = samples_of(&change(file(name))).unwrap();
        assert!(samples == whole, "{name}: {} samples", samples.len());
    }
}

#[test]
fn samples_behind_a_length_of_zero_are_read_unless_a_chunk_follows() {
    let mut wav = file("pcm_s16le.wav");
    let data = wav.windows(4).position(|name| name == b"data").unwrap();
    let whole = samples_of(&wav).unwrap();
    wav[data + 4..data + 8].fill(0);
    assert!(samples_of(&wav).unwrap() == whole);
    wav.truncate(data + 8);
    wav.extend(b"LIST\x04\0\0\0INFO");
    let length = wav.len() as u32 - 8;
    wav[4..8].copy_from_slice(&length.to_le_bytes());
    assert_eq!(samples_of(&wav).unwrap(), []);
}

#[test]
fn the_core_of_aac_with_explicit_extensions_is_decoded() {
    let plain = samples_of(&file("aac.m4a")).unwrap();
    for change in [make::explicit_sbr, make::explicit_ps] {
        assert!(samples_of(&change(file("aac.m4a"))).unwrap() == plain);
    }
    assert_refused(&make::low_delay(file("aac.m4a")), "AAC-LD in mp4");
}

#[test]
fn a_track_may_have_two_sample_entries() {
    let plain = samples_of(&file("aac.m4a")).unwrap();
    assert!(samples_of(&make::two_descriptions(file("aac.m4a"))).unwrap() == plain);
}

#[test]
fn mpeg_frames_are_found_after_junk() {
    let plain = "mp3_vbr_bare.mp3";
    let expected = samples_of(&file(plain)).unwrap();
    for change in [
        make::behind_zeros,
        make::behind_noise,
        make::behind_a_picture,
    ] {
        let samples = samples_of(&change(file(plain))).unwrap();
        assert_eq!(samples.len(), expected.len());
        assert!(correlation(&samples, &expected, 0) > 0.999);
    }
    assert_is_clip(&make::behind_zeros(file("aac_22050.aac")), 744, "ADTS");
    assert_is_clip(&make::behind_noise(file("mp2.mp2")), 481, "MP2");
    assert!(samples_of(&make::behind_zeros(file("pcm_s16le.wav"))).unwrap() == clip());
}

#[test]
fn aac_with_adts_headers_is_decoded_in_wav_and_avi() {
    for content in make::adts_in_wav_and_avi(&file("aac_22050.aac")) {
        assert_is_clip(&content, 744, "ADTS");
    }
}

#[test]
fn endless_junk_is_not_audio() {
    let junk = make::behind_noise(vec![0; 3_000_000]);
    assert!(matches!(refusal(&junk), Error::NotAudio(_)));
    let late = [vec![0; 1_100_000], file("mp3_vbr_bare.mp3")].concat();
    assert!(matches!(refusal(&late), Error::NotAudio(_)));
}

#[test]
fn a_picture_in_flac_may_be_large() {
    let content = make::flac_with_picture(file("flac.flac"));
    assert!(samples_of(&content).unwrap() == clip());
}

#[test]
fn truncated_headers_are_reported_as_damage() {
    for (name, len) in [
        ("pcm_s16le.wav", 30),
        ("pcm_s16be.aiff", 20),
        ("pcm_mulaw.au", 20),
        ("pcm_alaw.caf", 30),
    ] {
        match refusal(&file(name)[..len]) {
            Error::Corrupt(text) => assert!(text.contains("damaged"), "{name}: {text}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn unknown_codecs_of_quicktime_are_refused_by_name() {
    for (name, said) in [
        (b"samr", "the codec AMR in mp4"),
        (b"sawb", "AMR-WB"),
        (b"QDM2", "QDesign Music"),
        (b"dtsc", "DTS"),
        (b"ac-3", "AC-3"),
        (b"enca", "an encrypted track"),
        (b"xyz1", "\"xyz1\""),
    ] {
        let content = make::with_sample_entry(file("pcm_s24be.mov"), b"in24", name);
        assert_refused(&content, said);
    }
}

#[test]
fn the_byte_order_of_quicktime_follows_the_sample_entry() {
    // Without the box `enda` samples are big-endian.
    let big = samples_of(&file("pcm_s24be.mov")).unwrap();
    assert!(big == clip());
    let little = make::with_sample_entry(file("pcm_s24be.mov"), b"in24", b"42ni");
    assert!(samples_of(&little).unwrap() != big);
}

/// A transport stream filtered by PID, with extra bytes before and after each packet.
fn transport(keep: impl Fn(u16) -> bool, before: &[u8], after: &[u8]) -> Vec<u8> {
    file("mp3.ts")
        .chunks(188)
        .filter(|packet| keep(u16::from_be_bytes([packet[1] & 0x1f, packet[2]])))
        .flat_map(|packet| [before, packet, after].concat())
        .collect()
}

#[test]
fn transport_streams_are_read_with_other_packet_lengths_and_without_tables() {
    let plain = samples_of(&file("mp3.ts")).unwrap();
    for (content, what) in [
        (transport(|_| true, b"time", b""), "192 bytes"),
        (transport(|_| true, b"", &[0; 16]), "204 bytes"),
        (transport(|pid| pid != 0, b"", b""), "no table"),
    ] {
        assert!(samples_of(&content).unwrap() == plain, "{what}");
    }
}

#[test]
fn a_transport_stream_that_was_cut_within_a_packet_is_read_from_the_next_one() {
    for (content, what) in [
        (file("mp3.ts"), "MP3"),
        (file("aac.ts"), "AAC"),
        (transport(|_| true, b"time", b""), "192 bytes"),
        (transport(|_| true, b"", &[0; 16]), "204 bytes"),
    ] {
        let whole = samples_of(&content).unwrap().len();
        for cut in [1, 100, 187] {
            let samples = samples_of(&content[cut..]).unwrap().len();
            // The first packet has a table.
            assert_eq!(samples, whole, "{what} without {cut} bytes");
        }
    }
}

#[test]
fn a_transport_stream_with_missing_bytes_is_resynchronised() {
    let whole = file("mp3.ts");
    let half = whole.len() / 2;
    let content = [&whole[..half - 100], &whole[half..]].concat();
    let mut decoder = Decoder::open(bytes(&content), &Hint::default()).unwrap();
    let mut samples = 0;
    while let Some(block) = decoder.next_block().unwrap() {
        samples += block.samples.len();
    }
    let before = samples_of(&whole).unwrap().len();
    assert!(samples + 4 * 576 > before, "{samples} of {before}");
}
