//! Damaged files yield what can be decoded, or an error; never a panic or an endless loop.

mod common;
#[path = "matrix/make.rs"]
mod make;

use audio::{Bytes, Error, Frames, Hint};
use common::data;
use make::Packed;

fn files() -> Vec<(String, Vec<u8>)> {
    let folder = format!("{}/tests/data/formats", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read(&path).unwrap(),
            )
        })
        .collect();
    for (name, content) in [
        ("stripped.mka", make::matroska(Packed::Stripped)),
        ("zlib.mka", make::matroska(Packed::Zlib)),
        ("rf64.wav", make::rf64()),
        ("rifx.wav", make::rifx()),
        ("wide.wav", make::wide_low()),
    ] {
        files.push((name.to_owned(), content));
    }
    files.sort();
    files
}

/// Seconds of decoded audio, or the error.
fn run(content: Vec<u8>) -> Result<f64, Error> {
    let mut bytes = Bytes::new();
    bytes.append(content);
    let mut frames = Frames::open(bytes, &Hint::default(), 80)?;
    while let Some(block) = frames.read()? {
        assert!(block.iter().all(|mel| mel.is_finite()));
    }
    Ok(frames.duration())
}

/// A small generator, so that failures are reproducible (Marsaglia, "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn a_truncated_file_yields_its_beginning_or_an_error() {
    for (name, content) in files() {
        let whole = run(content.clone());
        // Every offset in the headers, then twenty more.
        let step = (content.len() / 20).max(1);
        for end in (0..content.len().min(120)).chain((120..content.len()).step_by(step)) {
            let cut = run(content[..end].to_vec());
            if let (Ok(cut), Ok(whole)) = (&cut, &whole) {
                assert!(
                    *cut <= whole + 0.1,
                    "{name} cut at {end}: {cut} s of {whole} s"
                );
            }
        }
    }
}

#[test]
fn what_follows_a_damaged_piece_is_decoded() {
    for (name, header) in [
        ("mp3.avi", &b"00wb"[..]),
        // Tag type, and the first byte of a length below 64 KiB.
        ("mp3.flv", &[8, 0]),
        ("aac.flv", &[8, 0]),
        ("mp3.ts", &[0x47]),
        ("aac_22050.aac", &[0xff, 0xf1]),
    ] {
        let mut content = data(&format!("formats/{name}"));
        let whole = run(content.clone()).unwrap();
        let middle = content.len() / 2;
        let at = content[middle..]
            .windows(header.len())
            .position(|window| window == header)
            .unwrap();
        content[middle + at - 4..middle + at + 40].fill(0);
        let heard = run(content).unwrap();
        assert!(
            heard > whole - 0.3 && heard <= whole,
            "{name}: {heard} s of {whole} s"
        );
    }
}

#[test]
fn the_first_half_of_a_recording_can_be_decoded() {
    for name in [
        "pcm_s16le.wav",
        "pcm_s16be.aiff",
        "flac.flac",
        "mp3_44100_stereo.mp3",
        "vorbis.mkv",
        "aac_22050.aac",
        "aac_faststart.m4a",
        "vorbis.webm",
        "pcm_s16le.w64",
        "pcm_mulaw.au",
        "pcm_alaw.caf",
        "gsm.wav",
        "mp3.flv",
        "aac.ts",
        "mp3.mpg",
    ] {
        let (_, content) = files().into_iter().find(|(file, _)| file == name).unwrap();
        let seconds = run(content[..content.len() / 2].to_vec())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!((0.2..0.9).contains(&seconds), "{name}: {seconds} s");
    }
}

#[test]
fn flipped_bytes_do_no_harm() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (_, content) in files() {
        for round in 0..30 {
            let mut damaged = content.clone();
            // Most rounds damage only headers, which are at the start or the end.
            let len = damaged.len();
            let reach = match round % 3 {
                0 => 0..len.min(600),
                1 => len.saturating_sub(900)..len,
                _ => 0..len,
            };
            for _ in 0..1 + random.below(12) {
                damaged[reach.start + random.below(reach.len())] = random.below(256) as u8;
            }
            let _ = run(damaged);
        }
    }
}

#[test]
fn garbage_is_rejected() {
    let mut random = Random(42);
    for size in [1, 2, 3, 16, 100, 4_000, 100_000] {
        for _ in 0..10 {
            let garbage = (0..size).map(|_| random.below(256) as u8).collect();
            let _ = run(garbage);
        }
        assert!(matches!(run(vec![0; size]), Err(Error::NotAudio(_))));
    }
}
