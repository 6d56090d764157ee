//! Files that ffmpeg does not write: modified files of its own, and some that are built here.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use crate::common::data;

/// The recording, 16 bits, 16 kHz.
fn speech() -> Vec<u8> {
    data("speech.s16")
}

/// Its samples; full scale is 1.
pub fn samples() -> Vec<f32> {
    speech()
        .chunks_exact(2)
        .map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0)
        .collect()
}

fn replace(content: &mut [u8], from: &[u8], to: &[u8]) {
    let at = content
        .windows(from.len())
        .position(|window| window == from)
        .expect("the bytes to replace");
    content[at..at + to.len()].copy_from_slice(to);
}

/// Offset of the content of a RIFF chunk, and its length as stated.
fn chunk(content: &[u8], name: &[u8; 4]) -> (usize, usize) {
    let at = content
        .windows(4)
        .position(|window| window == name)
        .expect("a chunk");
    let len = content[at + 4..at + 8].try_into().expect("four bytes");
    (at + 8, u32::from_le_bytes(len) as usize)
}

/// A WAV file with these chunks.
fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut content = b"RIFF\0\0\0\0WAVE".to_vec();
    for (name, body) in chunks {
        content.extend(*name);
        content.extend((body.len() as u32).to_le_bytes());
        content.extend(*body);
        if body.len() % 2 == 1 {
            content.push(0);
        }
    }
    let len = content.len() as u32 - 8;
    content[4..8].copy_from_slice(&len.to_le_bytes());
    content
}

/// The content of a `fmt ` chunk: tag, channels, rate, bytes per block, bits.
fn format(tag: u16, channels: u16, rate: u32, block: u16, bits: u16) -> Vec<u8> {
    let mut content = tag.to_le_bytes().to_vec();
    content.extend(channels.to_le_bytes());
    content.extend(rate.to_le_bytes());
    content.extend((rate * u32::from(block)).to_le_bytes());
    content.extend(block.to_le_bytes());
    content.extend(bits.to_le_bytes());
    content
}

/// WAV and AVI files of AAC with ADTS headers, as `ffmpeg -c copy` makes them of ADTS and of MPEG transport streams. In the AVI file,
/// the length of a picture between the audio chunks is damaged.
pub fn adts_in_wav_and_avi(adts: &[u8]) -> [Vec<u8>; 2] {
    let described = format(0x00ff, 1, 22_050, 1, 0);
    let wav = riff(&[(b"fmt ", &described), (b"data", adts)]);
    let list = |form: &[u8; 4], chunks: &[(&[u8; 4], &[u8])]| {
        let content = riff(chunks);
        [form, &content[12..]].concat()
    };
    let stream = list(b"strl", &[(b"strh", b"auds"), (b"strf", &described)]);
    let header = list(b"hdrl", &[(b"LIST", &stream)]);
    let (first, rest) = adts.split_at(1_000);
    let movie = list(
        b"movi",
        &[(b"00wb", first), (b"01dc", b"picture."), (b"00wb", rest)],
    );
    let mut avi = riff(&[(b"LIST", &header), (b"LIST", &movie)]);
    avi[8..12].copy_from_slice(b"AVI ");
    replace(&mut avi, b"01dc\x08\0\0\0", b"01dc\x08\0\0\x7f");
    [wav, avi]
}

/// A WAV file of G.711 whose format chunk has 16 bytes and states 16 bits per sample.
pub fn short_g711_header(content: Vec<u8>) -> Vec<u8> {
    let (at, _) = chunk(&content, b"fmt ");
    let tag = u16::from_le_bytes([content[at], content[at + 1]]);
    let (data, len) = chunk(&content, b"data");
    riff(&[
        (b"fmt ", &format(tag, 1, 16_000, 1, 16)),
        (b"data", &content[data..data + len]),
    ])
}

/// The same, as WAVE_FORMAT_EXTENSIBLE.
pub fn extensible_g711_header(content: Vec<u8>) -> Vec<u8> {
    let (at, _) = chunk(&content, b"fmt ");
    let tag = [content[at], content[at + 1]];
    let (data, len) = chunk(&content, b"data");
    let mut fmt = format(0xfffe, 1, 16_000, 1, 8);
    fmt.extend([22, 0, 8, 0, 4, 0, 0, 0]);
    fmt.extend(tag);
    fmt.extend(b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
    riff(&[(b"fmt ", &fmt), (b"data", &content[data..data + len])])
}

/// 24 bits in four bytes, in the high or the low bits.
fn wide(low: bool) -> Vec<u8> {
    let samples: Vec<u8> = speech()
        .chunks_exact(2)
        .flat_map(|pair| {
            let sample = i32::from(i16::from_le_bytes([pair[0], pair[1]]));
            // Also set some of the lowest of the 24 bits.
            let sample = (sample << 8) + 5;
            if low { sample } else { sample << 8 }.to_le_bytes()
        })
        .collect();
    riff(&[(b"fmt ", &format(1, 1, 16_000, 4, 24)), (b"data", &samples)])
}

pub fn wide_high() -> Vec<u8> {
    wide(false)
}

pub fn wide_low() -> Vec<u8> {
    wide(true)
}

/// Floating point in the range of 24 bits, with the format tag of PCM, as Cool Edit wrote it.
pub fn cool_edit() -> Vec<u8> {
    let samples: Vec<u8> = samples()
        .iter()
        .flat_map(|sample| (sample * 8_388_608.0).to_le_bytes())
        .collect();
    riff(&[(b"fmt ", &format(1, 1, 16_000, 4, 24)), (b"data", &samples)])
}

/// RIFX: all numbers and samples big-endian.
pub fn rifx() -> Vec<u8> {
    let mut content =
        b"RIFX\0\0\0\0WAVEfmt \0\0\0\x10\0\x01\0\x01\0\0\x3e\x80\0\0\x7d\0\0\x02\0\x10data"
            .to_vec();
    let samples = speech();
    content.extend((samples.len() as u32).to_be_bytes());
    content.extend(samples.chunks_exact(2).flat_map(|pair| [pair[1], pair[0]]));
    let len = content.len() as u32 - 8;
    content[4..8].copy_from_slice(&len.to_be_bytes());
    content
}

/// A chunk of odd length before the samples, padded.
pub fn odd_chunk() -> Vec<u8> {
    riff(&[
        (b"fmt ", &format(1, 1, 16_000, 2, 16)),
        (b"bext", b"odd"),
        (b"data", &speech()),
    ])
}

/// With the lengths of samples and file left unset, as by writers to a pipe.
pub fn no_lengths(mut content: Vec<u8>) -> Vec<u8> {
    let data = chunk(&content, b"data").0 - 4;
    for at in [4, data] {
        content[at..at + 4].fill(0);
    }
    content
}

/// The lengths of [`no_lengths`] in AIFF.
pub fn no_aiff_lengths(mut content: Vec<u8>) -> Vec<u8> {
    let sound = chunk(&content, b"SSND").0 - 4;
    for at in [4, sound] {
        content[at..at + 4].fill(0);
    }
    content
}

/// The samples of an A-law AIFF-C file with another codec name.
pub fn g722_in_aiff(mut content: Vec<u8>) -> Vec<u8> {
    replace(&mut content, b"alaw", b"G722");
    content
}

pub fn gsm_in_aiff(mut content: Vec<u8>) -> Vec<u8> {
    replace(&mut content, b"alaw", b"agsm");
    content
}

/// The lengths of [`no_lengths`] in AU.
pub fn no_au_length(mut content: Vec<u8>) -> Vec<u8> {
    content[8..12].fill(0xff);
    content
}

/// The length of [`no_lengths`] in CAF: -1.
pub fn no_caf_length(mut content: Vec<u8>) -> Vec<u8> {
    let (data, _) = chunk(&content, b"data");
    content[data - 4..data + 4].fill(0xff);
    content
}

/// Replaces the AAC LC configuration at 16 kHz, including the bytes that ffmpeg writes after it, with one that signals SBR.
pub fn explicit_sbr(mut content: Vec<u8>) -> Vec<u8> {
    // Object type 5, 16 kHz, one channel, 32 kHz with the extension, core LC.
    replace(
        &mut content,
        b"\x14\x08\x56\xe5\x00",
        b"\x2c\x0a\x88\x00\x00",
    );
    content
}

/// The same with PS.
pub fn explicit_ps(mut content: Vec<u8>) -> Vec<u8> {
    replace(
        &mut content,
        b"\x14\x08\x56\xe5\x00",
        b"\xec\x0a\x88\x00\x00",
    );
    content
}

/// The same as AAC-LD.
pub fn low_delay(mut content: Vec<u8>) -> Vec<u8> {
    replace(
        &mut content,
        b"\x14\x08\x56\xe5\x00",
        b"\xbc\x08\x00\x00\x00",
    );
    content
}

/// The samples of a track with another sample entry name.
pub fn with_sample_entry(mut content: Vec<u8>, from: &[u8; 4], to: &[u8; 4]) -> Vec<u8> {
    let stsd = content
        .windows(4)
        .position(|window| window == b"stsd")
        .expect("stsd");
    replace(&mut content[stsd..], from, to);
    content
}

/// With the sample description duplicated.
pub fn two_descriptions(content: Vec<u8>) -> Vec<u8> {
    // The samples precede the index in this file, so their offsets do not change.
    let stsd = content
        .windows(4)
        .position(|window| window == b"stsd")
        .expect("stsd");
    let size =
        |at: usize| u32::from_be_bytes(content[at..at + 4].try_into().expect("four")) as usize;
    let entry = stsd + 12;
    let copy = content[entry..entry + size(entry)].to_vec();
    let mut changed = content.clone();
    changed.splice(entry..entry, copy.iter().copied());
    changed[stsd + 8..stsd + 12].copy_from_slice(&2_u32.to_be_bytes());
    // Enlarge all enclosing boxes.
    for name in [b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"] {
        let at = content
            .windows(4)
            .position(|window| window == name)
            .expect("a box")
            - 4;
        let grown = (size(at) + copy.len()) as u32;
        changed[at..at + 4].copy_from_slice(&grown.to_be_bytes());
    }
    changed
}

/// MP4 with this edit list in place of its own: lengths in milliseconds, starts in units of the track's time scale. `moov` must be the
/// last box, and its track the first.
pub fn with_edits(mut content: Vec<u8>, edits: &[(u32, i32)]) -> Vec<u8> {
    let find = |content: &[u8], name: &[u8; 4]| {
        let found = content.windows(4).rposition(|four| four == name);
        found.expect("a box of this name")
    };
    let at = find(&content, b"elst");
    let size = |content: &[u8], at: usize| {
        u32::from_be_bytes(content[at - 4..at].try_into().expect("four bytes")) as usize
    };
    let mut list = vec![0; 4];
    list.extend(u32::try_from(edits.len()).expect("a few").to_be_bytes());
    for (length, start) in edits {
        list.extend(length.to_be_bytes());
        list.extend(start.to_be_bytes());
        list.extend([0, 1, 0, 0]);
    }
    let old = size(&content, at) - 8;
    let grown = list.len() as i64 - old as i64;
    content.splice(at + 4..at + 4 + old, list);
    for name in [b"elst", b"edts", b"trak", b"moov"] {
        let at = find(&content, name);
        let size = size(&content, at) as i64 + grown;
        let size = u32::try_from(size).expect("a small file");
        content[at - 4..at].copy_from_slice(&size.to_be_bytes());
    }
    content
}

/// Offset after the name of each box with this name.
fn contents(content: &[u8], name: &[u8; 4]) -> Vec<usize> {
    let found = content.windows(4).enumerate();
    let found = found.filter(|(_, four)| four == name);
    found.map(|(at, _)| at + 4).collect()
}

/// MP4 truncated in its last fragment, in the video data after the audio data.
pub fn cut_off(mut content: Vec<u8>) -> Vec<u8> {
    let data = *contents(&content, b"mdat").last().expect("a fragment");
    let size = u32::from_be_bytes(content[data - 8..data - 4].try_into().expect("four bytes"));
    content.truncate(data + size as usize * 4 / 5);
    content
}

/// MP4 whose fragments follow their data.
pub fn data_before_fragments(content: Vec<u8>) -> Vec<u8> {
    let mut changed = Vec::new();
    let mut fragment = Vec::new();
    let mut rest = &content[..];
    while let Some((size, _)) = rest.split_first_chunk() {
        let (of, behind) = rest.split_at(u32::from_be_bytes(*size) as usize);
        rest = behind;
        match &of[4..8] {
            b"moof" => {
                fragment = of.to_vec();
                let run = contents(&fragment, b"trun")[0];
                let data = u32::from_be_bytes(behind[..4].try_into().expect("four bytes"));
                let offset = 8 - i64::from(data);
                fragment[run + 8..run + 12].copy_from_slice(&(offset as i32).to_be_bytes());
            }
            b"mdat" => {
                changed.extend(of);
                changed.append(&mut fragment);
            }
            // The index of the fragments is no longer valid.
            b"mfra" => {}
            _ => changed.extend(of),
        }
    }
    changed
}

/// MP4 with many empty boxes before the first fragment.
pub fn many_boxes(mut content: Vec<u8>) -> Vec<u8> {
    let fragment = contents(&content, b"moof")[0] - 8;
    content.splice(fragment..fragment, b"\0\0\0\x08free".repeat(70_000));
    content
}

/// MP4 whose edit list states half a second.
pub fn edits_of_half_a_second(content: Vec<u8>) -> Vec<u8> {
    with_edits(content, &[(500, 1_024)])
}

/// MP4 with a second index after the first, which states that there are no fragments.
pub fn two_indexes(content: Vec<u8>) -> Vec<u8> {
    let index = contents(&content, b"moov")[0] - 8;
    let size = u32::from_be_bytes(content[index..index + 4].try_into().expect("four bytes"));
    let of = &content[index..index + size as usize];
    let mut first = of.to_vec();
    let extends = contents(&first, b"mvex")[0];
    first[extends - 4..extends].copy_from_slice(b"free");
    [
        &content[..index],
        of,
        &first,
        &content[index + size as usize..],
    ]
    .concat()
}

/// MP4 whose fragments state samples without bytes.
pub fn samples_without_bytes(mut content: Vec<u8>) -> Vec<u8> {
    for header in contents(&content, b"tfhd") {
        let has = |flag: u8| {
            if content[header + 3] & flag != 0 {
                4
            } else {
                0
            }
        };
        assert_ne!(has(0x10), 0, "the sample size is stated");
        let at = header + 8 + 2 * has(0x1) + has(0x2) + has(0x8);
        content[at..at + 4].fill(0);
    }
    for run in contents(&content, b"trun") {
        // Only the data offset is stated.
        content[run..run + 4].copy_from_slice(&1_u32.to_be_bytes());
        content[run + 4..run + 8].fill(0xff);
    }
    content
}

/// MP4 whose fragments state all flags of the first sample instead of the samples' durations.
pub fn all_flags_of_first_samples(mut content: Vec<u8>) -> Vec<u8> {
    for run in contents(&content, b"trun") {
        let word = |at: usize| content[at..at + 4].try_into().expect("four bytes");
        let count = u32::from_be_bytes(word(run + 4)) as usize;
        // Durations and sizes alternate.
        assert_eq!(word(run), 0x301_u32.to_be_bytes());
        let sizes: Vec<u8> = (0..count).flat_map(|n| word(run + 16 + 8 * n)).collect();
        content[run..run + 4].copy_from_slice(&0x205_u32.to_be_bytes());
        content[run + 12..run + 16].fill(0xff);
        content[run + 16..run + 16 + sizes.len()].copy_from_slice(&sizes);
    }
    content
}

/// A fragmented film whose track defaults are in another order than its tracks.
pub fn swapped_defaults(mut content: Vec<u8>) -> Vec<u8> {
    let places: Vec<usize> = content
        .windows(4)
        .enumerate()
        .filter(|(_, four)| four == b"trex")
        .map(|(at, _)| at + 4)
        .collect();
    let [one, other] = places[..] else {
        panic!("the film has {} tracks", places.len());
    };
    for byte in 0..24 {
        content.swap(one + byte, other + byte);
    }
    content
}

fn behind(junk: Vec<u8>, content: Vec<u8>) -> Vec<u8> {
    [junk, content].concat()
}

pub fn behind_zeros(content: Vec<u8>) -> Vec<u8> {
    behind(vec![0; 100_000], content)
}

/// Preceded by random bytes, some of which look like the start of a frame.
pub fn behind_noise(content: Vec<u8>) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = (0..100_000).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    behind(noise.collect(), content)
}

/// Preceded by a tag with a 5 MB picture, in which every byte could start a frame.
pub fn behind_a_picture(content: Vec<u8>) -> Vec<u8> {
    let picture = vec![0xff; 5_000_000];
    let len = (picture.len() + 10) as u32;
    let seven = |shift: u32| (len >> shift & 127) as u8;
    let mut tag = b"ID3\x03\0\0".to_vec();
    tag.extend([seven(21), seven(14), seven(7), seven(0)]);
    tag.extend(b"APIC");
    tag.extend((picture.len() as u32).to_be_bytes());
    tag.extend([0, 0]);
    tag.extend(picture);
    behind(tag, content)
}

/// FLAC with a 5 MB picture.
pub fn flac_with_picture(content: Vec<u8>) -> Vec<u8> {
    let picture = vec![0xff; 5_000_000];
    let mut block = b"\0\0\0\x03\0\0\0\x0aimage/jpeg\0\0\0\0".to_vec();
    block.extend([0; 16]);
    block.extend((picture.len() as u32).to_be_bytes());
    block.extend(picture);
    let len = (block.len() as u32).to_be_bytes();
    let mut changed = content[..42].to_vec();
    changed.extend([6, len[1], len[2], len[3]]);
    changed.extend(block);
    changed.extend(&content[42..]);
    changed
}

/// Frames at 48 kHz and 64 kbit/s, which all have the same length, with the bit rate removed from their headers.
pub fn free_bit_rate(mut content: Vec<u8>) -> Vec<u8> {
    for at in (0..content.len()).step_by(192) {
        if at + 4 <= content.len() {
            content[at + 2] &= 0x0f;
        }
    }
    content
}

pub fn amr() -> Vec<u8> {
    [&b"#!AMR\n"[..], &[0x3c; 3_200]].concat()
}

pub fn amr_wb() -> Vec<u8> {
    [&b"#!AMR-WB\n"[..], &[0x24; 3_200]].concat()
}

/// RF64 (EBU Tech 3306): 64-bit lengths in a separate chunk.
pub fn rf64() -> Vec<u8> {
    let samples = speech();
    let mut lengths = (samples.len() as u64 + 72).to_le_bytes().to_vec();
    lengths.extend((samples.len() as u64).to_le_bytes());
    lengths.extend((samples.len() as u64 / 2).to_le_bytes());
    lengths.extend([0; 4]);
    let mut content = riff(&[
        (b"ds64", &lengths),
        (b"fmt ", &format(1, 1, 16_000, 2, 16)),
        (b"data", &samples),
        (b"LIST", b"INFO"),
    ]);
    content[..4].copy_from_slice(b"RF64");
    content[4..8].fill(0xff);
    let data = chunk(&content, b"data").0 - 4;
    content[data..data + 4].fill(0xff);
    content
}

/// A chunk of odd length before the samples, not padded.
pub fn odd_chunk_without_padding() -> Vec<u8> {
    let mut content = odd_chunk();
    let (at, len) = chunk(&content, b"bext");
    content.remove(at + len);
    content
}

/// Compression of Matroska frames, as stated in the track.
#[derive(Clone, Copy)]
pub enum Packed {
    /// Zeros are removed from the start of each.
    Stripped,
    Zlib,
    /// Algorithm with this number; the frames are left unchanged.
    By(u8),
}

/// Samples per frame of [`matroska`].
pub const MATROSKA_FRAME: usize = 1_600;

/// The recording as PCM in Matroska, compressed as by mkvmerge. Each frame starts with a sample of silence.
pub fn matroska(packed: Packed) -> Vec<u8> {
    const ALGORITHM: u32 = 0x4254;
    let element = |id: u32, content: &[u8]| {
        let id: Vec<u8> = id
            .to_be_bytes()
            .into_iter()
            .skip_while(|byte| *byte == 0)
            .collect();
        // The longest encoding of a length.
        let mut len = (content.len() as u64).to_be_bytes();
        len[0] = 1;
        [&id[..], &len, content].concat()
    };
    let compression = match packed {
        // Omitted elements have their defaults.
        Packed::Zlib => Vec::new(),
        Packed::Stripped => [element(ALGORITHM, &[3]), element(0x4255, &[0, 0])].concat(),
        Packed::By(number) => element(ALGORITHM, &[number]),
    };
    let encoding = element(0x6240, &element(0x5034, &compression));
    let audio = [
        element(0xb5, &16_000_f64.to_be_bytes()),
        element(0x9f, &[1]),
        element(0x6264, &[16]),
    ]
    .concat();
    let entry = [
        element(0xd7, &[1]),
        element(0x73c5, &[1]),
        element(0x83, &[2]),
        element(0x86, b"A_PCM/INT/LIT"),
        element(0xe1, &audio),
        element(0x6d80, &encoding),
    ]
    .concat();
    let mut cluster = element(0xe7, &[0]);
    for (index, frame) in silent_starts().chunks(2 * MATROSKA_FRAME).enumerate() {
        let frame = match packed {
            Packed::Stripped => frame[2..].to_vec(),
            Packed::Zlib => miniz_oxide::deflate::compress_to_vec_zlib(frame, 6),
            Packed::By(_) => frame.to_vec(),
        };
        let time = (100 * index as u16).to_be_bytes();
        let block = [&[0x81, time[0], time[1], 0x80], &frame[..]].concat();
        cluster.extend(element(0xa3, &block));
    }
    let information = [
        element(0x002a_d7b1, &[0x0f, 0x42, 0x40]),
        element(0x4d80, b"test"),
        element(0x5741, b"test"),
    ]
    .concat();
    let segment = [
        element(0x1549_a966, &information),
        element(0x1654_ae6b, &element(0xae, &entry)),
        element(0x1f43_b675, &cluster),
    ]
    .concat();
    [
        element(0x1a45_dfa3, &element(0x4282, b"matroska")),
        element(0x1853_8067, &segment),
    ]
    .concat()
}

/// The recording, with a sample of silence at the start of each frame of [`matroska`].
fn silent_starts() -> Vec<u8> {
    let mut content = speech();
    for frame in content.chunks_mut(2 * MATROSKA_FRAME) {
        frame[..2].fill(0);
    }
    content
}

/// The first page of an Ogg file, with this packet.
pub fn ogg(first: &[u8]) -> Vec<u8> {
    let mut page = b"OggS\0\x02".to_vec();
    page.extend([0; 20]);
    page.extend([1, first.len() as u8]);
    page.extend(first);
    page
}
