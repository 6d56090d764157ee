//! Malicious files: false lengths and counts, tables whose entries all point to the same bytes, and long runs of data that
//! a reader must examine. Output size and run time stay proportional to the file size.

mod common;
#[path = "matrix/make.rs"]
mod make;

use std::time::{Duration, Instant};

use audio::{Decoder, Error, Hint};
use common::{bytes, data};
use make::Packed;

/// Files in containers that are demultiplexed without symphonia.
const FILES: [&str; 19] = [
    "aac.flv",
    "aac.ts",
    "adpcm_ima.wav",
    "adpcm_ms.wav",
    "adpcm_yamaha.wav",
    "g722.wav",
    "gsm.wav",
    "ima4.aiff",
    "ima4.mov",
    "mp3.avi",
    "mp3.flv",
    "mp3.mpg",
    "mp3.ts",
    "mp3.wav",
    "pcm_alaw.caf",
    "pcm_mulaw.au",
    "pcm_mulaw.mov",
    "pcm_s16le.w64",
    "pcm_s24be.mov",
];

fn files() -> Vec<(&'static str, Vec<u8>)> {
    let mut files: Vec<_> = FILES
        .iter()
        .map(|name| (*name, data(&format!("formats/{name}"))))
        .collect();
    files.push(("stripped.mka", make::matroska(Packed::Stripped)));
    files.push(("zlib.mka", make::matroska(Packed::Zlib)));
    files.push(("rf64.wav", make::rf64()));
    files.push(("rifx.wav", make::rifx()));
    files
}

/// Maximum samples per byte: an MPEG audio frame has 1152, in at least 24 bytes.
const MAX_SAMPLES_PER_BYTE: usize = 64;

/// Number of decoded samples. Panics if there are more than the file can contain.
fn run(content: &[u8]) -> Result<usize, Error> {
    let mut decoder = Decoder::open(bytes(content), &Hint::default())?;
    let mut samples = 0;
    while let Some(block) = decoder.next_block()? {
        assert!(block.samples.iter().all(|sample| sample.is_finite()));
        samples += block.samples.len();
        assert!(
            samples <= MAX_SAMPLES_PER_BYTE * content.len() + 4096,
            "{samples} samples of {} bytes",
            content.len()
        );
    }
    Ok(samples)
}

/// The same, with a time limit that is met on a slow, busy machine, but not with quadratic run time.
fn run_in_time(content: &[u8], what: &str) -> Result<usize, Error> {
    let start = Instant::now();
    let result = run(content);
    let taken = start.elapsed();
    println!("{what}: {taken:.2?}, {result:?}");
    assert!(taken < Duration::from_secs(20), "{what}: {taken:?}");
    result
}

#[test]
fn a_truncated_file_yields_no_more_than_the_whole_file() {
    for (name, content) in files() {
        let whole = run(&content).unwrap();
        for end in (0..content.len().min(2_000)).chain((2_000..content.len()).step_by(97)) {
            if let Ok(cut) = run(&content[..end]) {
                assert!(
                    cut <= whole + 2_304,
                    "{name} cut at {end}: {cut} of {whole}"
                );
            }
        }
    }
}

#[test]
fn false_numbers_do_no_harm() {
    for (name, content) in files() {
        let last = content.len() - 4;
        // Headers are at the start or the end.
        let places = (0..last.min(600)).chain(last.saturating_sub(900).max(600)..last);
        for (at, lie) in places.zip(
            [0, u32::MAX, 0x7fff_ffff, 1, 0x8000_0000]
                .into_iter()
                .cycle(),
        ) {
            for swapped in [lie, lie.swap_bytes(), u32::MAX] {
                let mut changed = content.clone();
                changed[at..at + 4].copy_from_slice(&swapped.to_be_bytes());
                if std::panic::catch_unwind(|| run(&changed)).is_err() {
                    panic!("{name}: {swapped:#x} at {at}");
                }
            }
        }
    }
}

/// An MP4 box.
fn atom(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [
        &(content.len() as u32 + 8).to_be_bytes(),
        &name[..],
        content,
    ]
    .concat()
}

/// An A-law track with these tables: samples per chunk, sample sizes, chunk offsets.
fn mp4(stsc: &[u32], stsz: &[u32], stco: &[u32]) -> Vec<u8> {
    let table = |name, numbers: &[u32]| {
        let content: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
        atom(name, &content)
    };
    let mut entry = vec![0; 28];
    entry[7] = 1;
    entry[17] = 1;
    entry[19] = 16;
    entry[24..26].copy_from_slice(&8_000_u16.to_be_bytes());
    let stsd = [&[0, 0, 0, 0, 0, 0, 0, 1], &atom(b"alaw", &entry)[..]].concat();
    let stbl = [
        atom(b"stsd", &stsd),
        table(b"stts", &[0, 1, 1, 1]),
        table(b"stsc", stsc),
        table(b"stsz", stsz),
        table(b"stco", stco),
    ]
    .concat();
    let hdlr = atom(b"hdlr", b"\0\0\0\0\0\0\0\0soun\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let mdia = [hdlr, atom(b"minf", &atom(b"stbl", &stbl))].concat();
    let moov = atom(b"trak", &atom(b"mdia", &mdia));
    [
        atom(b"ftyp", b"qt  \0\0\0\0"),
        atom(b"moov", &moov),
        atom(b"mdat", &[0x55; 1000]),
    ]
    .concat()
}

#[test]
fn mp4_chunks_that_each_span_the_whole_file_terminate() {
    let honest = mp4(&[0, 1, 1, 1000, 1], &[0, 1, 1000], &[0, 1, 0]);
    assert_eq!(run(&honest).unwrap(), 1000);
    let mut offsets = vec![0; 100_002];
    offsets[1] = 100_000;
    let content = mp4(&[0, 1, 1, u32::MAX, 1], &[0, 1, u32::MAX], &offsets);
    let samples = run_in_time(&content, "chunks").unwrap();
    assert!(samples <= content.len());
    // Individual sizes, for chunks that each claim all samples.
    let mut sizes = vec![0; 100_003];
    sizes[2] = 100_000;
    let content = mp4(&[0, 1, 1, u32::MAX, 1], &sizes, &offsets);
    let _ = run_in_time(&content, "sizes");
}

#[test]
fn nested_and_empty_boxes_take_linear_time() {
    let mut nested = Vec::new();
    for _ in 0..50_000 {
        nested.extend([0, 0, 0, 0]);
        nested.extend(b"moov");
    }
    let ftyp = atom(b"ftyp", b"isom\0\0\0\0");
    let _ = run_in_time(&[&ftyp[..], &nested].concat(), "nested");
    for name in [b"trak", b"free", b"mdat", b"moof"] {
        let empty = atom(name, b"").repeat(200_000);
        let _ = run_in_time(&[&ftyp[..], &empty].concat(), "side by side");
        let _ = run_in_time(&[&ftyp[..], &atom(b"moov", &empty)].concat(), "in moov");
    }
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    let bytes = numbers.iter().flat_map(|number| number.to_be_bytes());
    bytes.collect()
}

/// AAC in MP4 without an edit list, with fragments behind it. Samples of theirs last 1024, and have one byte.
fn with_fragments(fragments: &[u8]) -> Vec<u8> {
    let mut plain = data("formats/aac.m4a");
    let at = |name| plain.windows(4).position(|four| four == name).unwrap();
    let (index, edits) = (at(b"moov") - 4, at(b"edts"));
    plain[edits..edits + 4].copy_from_slice(b"free");
    let extends = atom(b"mvex", &atom(b"trex", &numbers(&[0, 1, 1, 1024, 1, 0])));
    let (before, index) = plain.split_at(index);
    let index = atom(b"moov", &[&index[8..], &extends].concat());
    [before, &index, fragments].concat()
}

/// A fragment with a run.
fn fragment(run: &[u32]) -> Vec<u8> {
    let run = atom(b"trun", &numbers(run));
    let track = [atom(b"tfhd", &numbers(&[0, 1])), run].concat();
    let content = [atom(b"mfhd", &numbers(&[0, 1])), atom(b"traf", &track)].concat();
    atom(b"moof", &content)
}

#[test]
fn fragments_without_samples_take_time_in_proportion() {
    let empty = [fragment(&[0, 0]), atom(b"mdat", b"")].concat();
    let content = with_fragments(&empty.repeat(100_000));
    let samples = run_in_time(&content, "fragments without samples").unwrap();
    assert_eq!(samples, run(&with_fragments(b"")).unwrap());
}

#[test]
fn a_long_run_takes_time_in_proportion_whatever_its_durations() {
    let count = 1_000_000;
    let mut durations = vec![0x100, count];
    durations.extend((0..count).map(|sample| 23 + sample % 2));
    let content = [atom(b"mdat", b""), fragment(&durations)].concat();
    let _ = run_in_time(&with_fragments(&content), "a long run");
}

#[test]
fn long_runs_of_markers_take_linear_time() {
    let whole = |start: &[u8], run: &[u8]| [start, &run.repeat(2_000_000 / run.len())].concat();
    let riff = b"RIFF\xff\xff\xff\xffWAVE";
    let matroska = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff";
    let pack = b"\0\0\x01\xba\x44\0\x04\0\x04\x01\0\0\x03\xf8";
    let mut packet = vec![0xff; 188];
    packet[..4].copy_from_slice(b"\x47\x1f\xff\x10");
    for (content, what) in [
        (whole(riff, b"junk\0\0\0\0"), "chunks of RIFF"),
        (whole(b"FORM\0\0\0\0AIFC", b"JUNK\0\0\0\0"), "chunks of IFF"),
        (
            whole(b"RIFF\0\0\0\0AVI ", b"LIST\0\0\0\0movi"),
            "lists of AVI",
        ),
        (whole(b"caff\0\x01\0\0", &[0; 12]), "chunks of CAF"),
        (
            whole(b"FLV\x01\x05\0\0\0\x09\0\0\0\0", &[0; 15]),
            "tags of FLV",
        ),
        (whole(matroska, b"\xec\x80"), "elements of Matroska"),
        (whole(pack, b"\0\0\x01\0"), "start codes"),
        (whole(pack, b"\0\0\x01\xc0\0\x03\x80\0\0"), "empty packets"),
        (whole(&packet.repeat(8), b"\x47"), "synchronisation"),
        (whole(b"", &packet), "transport packets"),
        (whole(b"", b"\xff\xfb\x90\0"), "headers of MP3"),
        (whole(b"x", b"\xff"), "ones"),
        (whole(b"x", b"RIFF"), "RIFF"),
        (whole(b"x", b"fLaC"), "fLaC"),
        (whole(b"", b"ID3\x03\0\0\0\0\0\0"), "tags"),
        (whole(b"", b"OggS\0\x02"), "pages"),
        (whole(b"fLaC\0\0\0\x22", b"fLaC\0\0\0\x22"), "parts of FLAC"),
    ] {
        let _ = run_in_time(&content, what);
    }
}

/// A set-up header of Vorbis: pairs of a number and how many bits it has.
fn vorbis_setup(parts: &[&[(u32, u32)]]) -> Vec<u8> {
    let numbers = parts.iter().copied().flatten();
    let bits: Vec<u8> = numbers
        .flat_map(|(number, width)| {
            (0..*width).map(move |bit| (number.checked_shr(bit).unwrap_or(0) & 1) as u8)
        })
        .collect();
    let bytes = bits.chunks(8).map(|bits| {
        let places = bits.iter().enumerate();
        places.fold(0, |byte, (place, bit)| byte | bit << place)
    });
    [b"\x05vorbis".to_vec(), bytes.collect()].concat()
}

#[test]
fn setup_headers_of_vorbis_that_are_wrong_are_refused() {
    let plain = data("formats/vorbis.mkv");
    let at = |mark: &[u8]| {
        let found = plain.windows(mark.len()).position(|bytes| bytes == mark);
        found.unwrap()
    };
    let (identification, setup) = (at(b"\x01vorbis"), at(b"\x05vorbis"));
    let run_with = |channels: u8, parts: &[&[(u32, u32)]]| {
        let header = vorbis_setup(parts);
        let mut changed = plain.clone();
        changed[identification + 11] = channels;
        changed[setup..setup + header.len()].copy_from_slice(&header);
        run(&changed)
    };
    // One of each: a book of two codes of one bit, a floor of two points and one at 1, an empty residue, a mapping, a mode.
    let book: &[_] = &[
        (0, 8),
        (0x56_4342, 24),
        (1, 16),
        (2, 24),
        (0, 2),
        (0, 10),
        (0, 4),
    ];
    let time: &[_] = &[(0, 6), (0, 16)];
    let floor: &[_] = &[
        (0, 6),
        (1, 16),
        (1, 5),
        (0, 4),
        (0, 5),
        (1, 8),
        (0, 2),
        (4, 4),
        (1, 4),
    ];
    let residue: &[_] = &[(0, 6), (1, 16), (0, 72), (0, 6), (0, 8), (0, 4)];
    let mapping: &[_] = &[(0, 6), (0, 16), (0, 4), (0, 24)];
    let mode: &[_] = &[(0, 6), (0, 33), (0, 8), (1, 1)];
    assert!(run_with(1, &[book, time, floor, residue, mapping, mode]).is_ok());

    let long_codes: &[_] = &[
        (0, 8),
        (0x56_4342, 24),
        (1, 16),
        (2, 24),
        (1, 1),
        (31, 5),
        (0, 2),
        (2, 2),
        (0, 4),
    ];
    let no_codes: &[_] = &[
        (0, 8),
        (0x56_4342, 24),
        (1, 16),
        (2, 24),
        (2, 2),
        (0, 2),
        (0, 4),
    ];
    let two_at_zero: &[_] = &[
        (0, 6),
        (1, 16),
        (1, 5),
        (0, 4),
        (0, 5),
        (1, 8),
        (0, 2),
        (4, 4),
        (0, 4),
    ];
    let sixteen_books: &[_] = &[
        (0, 6),
        (0, 16),
        (0, 8),
        (1, 16),
        (1, 16),
        (1, 6),
        (0, 8),
        (15, 4),
        (0, 128),
    ];
    for (book, floor) in [
        (long_codes, floor),
        (no_codes, floor),
        (book, two_at_zero),
        (book, sixteen_books),
    ] {
        let result = run_with(1, &[book, time, floor, residue, mapping, mode]);
        assert!(matches!(result, Err(Error::Corrupt(_))), "{result:?}");
    }
    // The second and third channel, and no other, have a residue of type 2.
    let pair: &[_] = &[(0, 6), (2, 16), (0, 72), (0, 6), (0, 8), (0, 4)];
    let submaps: &[_] = &[
        (0, 6),
        (0, 16),
        (1, 1),
        (1, 4),
        (0, 3),
        (0x110, 12),
        (0, 48),
    ];
    let result = run_with(3, &[book, time, floor, pair, submaps, mode]);
    assert!(
        matches!(result, Err(Error::UnsupportedCodec(_))),
        "{result:?}"
    );
}

#[test]
fn false_lacing_of_matroska_does_no_harm() {
    let content = make::matroska(Packed::Zlib);
    let mut block = 0;
    while let Some(at) = content[block..]
        .windows(4)
        .position(|four| four[0] == 0x81 && four[3] == 0x80)
    {
        block += at + 4;
        // Xiph, fixed sizes, EBML.
        for lacing in [2, 4, 6] {
            for fill in [0, 0x01, 0x40, 0x80, 0xff] {
                let mut changed = content.clone();
                changed[block - 1] |= lacing;
                let end = changed.len().min(block + 300);
                changed[block] = 0xff;
                changed[block + 1..end].fill(fill);
                let _ = run(&changed);
            }
        }
    }
    assert!(block > 0);
}

#[test]
fn packets_without_a_start_are_skipped() {
    // A transport stream in which no PES packet starts.
    let mut content = data("formats/mp3.ts");
    for packet in content.chunks_exact_mut(188) {
        packet[1] &= !0x40;
    }
    assert!(run(&content).is_err());
    // A program stream whose PES headers claim to be longer than the packets.
    let mut content = data("formats/mp3.mpg");
    for at in 0..content.len() - 9 {
        if content[at..at + 4] == *b"\0\0\x01\xc0" {
            content[at + 8] = 0xff;
        }
    }
    let _ = run(&content);
}

#[test]
fn the_index_of_an_avi_file_is_not_used() {
    let plain = data("formats/mp3.avi");
    let whole = run(&plain).unwrap();
    let index = plain.windows(4).position(|name| name == b"idx1").unwrap();
    let mut content = plain.clone();
    content[index + 8..].fill(0xff);
    assert_eq!(run(&content).unwrap(), whole);
    // Without the index, and with list lengths that were never set.
    content.truncate(index);
    assert_eq!(run(&content).unwrap(), whole);
    let movie = content.windows(4).position(|name| name == b"movi").unwrap();
    for at in [4, movie - 4] {
        content[at..at + 4].fill(0);
    }
    assert_eq!(run(&content).unwrap(), whole);
    // Truncated in the audio.
    let cut = run(&content[..(movie + content.len()) / 2]).unwrap();
    assert!((whole / 4..whole).contains(&cut), "{cut} of {whole}");
}
