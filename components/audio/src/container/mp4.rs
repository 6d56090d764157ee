//! MP4 and QuickTime files that symphonia reads incorrectly or not at all: it treats all PCM as little-endian, does not support IMA
//! ADPCM, expects a single sample entry, and fails on unusual tracks that are not audio.
//!
//! PCM, G.711, ADPCM and MP3 are demultiplexed here, chunk by chunk. symphonia reads the rest, after [`prepare`] has hidden
//! everything it cannot read.

use std::ops::Range;
use std::sync::Arc;

use super::boxes::{Atom, atoms, inside};
use super::content::{Coding, Content};
use super::edits::{self, Edits};
use super::fragments;
use super::sample_entry::{Kind, SampleEntry};
use crate::blocks::Blocks;
use crate::error::{damaged, unsupported};
use crate::payload::{Piece, Pieces};
use crate::{Bytes, Error};

/// Maximum audio tracks read; films in many languages have a few dozen.
const MAX_TRACKS: usize = 256;

/// Maximum sample entries read per track.
const MAX_ENTRIES: usize = 64;

/// Maximum bytes of a sample entry if there are several. Real ones have a few hundred.
const MAX_ENTRY_BYTES: u64 = 64 * 1024;

/// An audio track.
struct Track {
    /// The box `trak`.
    atom: Atom,
    /// Range of the content of `stbl`.
    table: Range<u64>,
    /// Ranges of the sample entries, headers included.
    entries: Vec<Range<u64>>,
    /// Index of the entry that all samples refer to; `None` if they refer to different ones.
    used: Option<usize>,
}

impl Track {
    fn read(bytes: &Bytes, atom: Atom) -> Option<Self> {
        let media = inside(bytes, atom.content.clone(), &[b"mdia"])?;
        let handler = inside(bytes, media.clone(), &[b"hdlr"])?;
        if bytes.array_at(handler.start + 8)? != *b"soun" {
            return None;
        }
        let table = inside(bytes, media, &[b"minf", b"stbl"])?;
        let descriptions = inside(bytes, table.clone(), &[b"stsd"])?;
        let entries: Vec<_> = atoms(bytes, descriptions.start + 8..descriptions.end)
            .take(MAX_ENTRIES)
            .map(|entry| entry.named_at - 4..entry.content.end)
            .collect();
        let used = used_entry(bytes, &table, &entries);
        Some(Self {
            atom,
            table,
            entries,
            used,
        })
    }

    fn entry(&self, bytes: &Bytes) -> Option<SampleEntry> {
        SampleEntry::read(bytes, self.entries.get(self.used?)?.clone())
    }
}

/// Index of the sample entry that all chunks refer to; `None` if they refer to different ones.
fn used_entry(bytes: &Bytes, table: &Range<u64>, entries: &[Range<u64>]) -> Option<usize> {
    if entries.len() <= 1 {
        return Some(0);
    }
    if entries
        .iter()
        .any(|entry| entry.end - entry.start > MAX_ENTRY_BYTES)
    {
        return None;
    }
    let chunks = inside(bytes, table.clone(), &[b"stsc"])?;
    let mut used = Vec::new();
    for at in (chunks.start + 8..chunks.end).step_by(12) {
        let Some(index) = bytes.array_at(at + 8).map(u32::from_be_bytes) else {
            break;
        };
        let index = (index as usize).saturating_sub(1);
        if index < entries.len() && !used.contains(&index) {
            used.push(index);
        }
    }
    let content = |index: &usize| bytes.slice(entries[*index].clone());
    let (first, others) = used.split_first()?;
    let same = content(first);
    others
        .iter()
        .all(|other| content(other) == same)
        .then_some(*first)
}

/// The content of `moov`, and whether the samples are in fragments after it.
fn movie(bytes: &Bytes, range: Range<u64>) -> Option<(Range<u64>, bool)> {
    let movie = inside(bytes, range, &[b"moov"])?;
    let is_fragmented = inside(bytes, movie.clone(), &[b"mvex"]).is_some();
    Some((movie, is_fragmented))
}

fn tracks(bytes: &Bytes, movie: Range<u64>) -> Vec<Track> {
    atoms(bytes, movie)
        .filter(|atom| atom.name == *b"trak")
        .filter_map(|atom| Track::read(bytes, atom))
        .take(MAX_TRACKS)
        .collect()
}

/// Hides from symphonia what it cannot read: tracks that are not audio or are demultiplexed here, and all unused sample entries.
/// In fragmented files it sees only the first track that it can read, and of several `moov` only the first.
pub(crate) fn prepare(bytes: &mut Bytes, range: Range<u64>) {
    let movies = atoms(bytes, range.clone()).filter(|atom| atom.name == *b"moov");
    let further: Vec<u64> = movies.skip(1).map(|movie| movie.named_at).collect();
    for named_at in further {
        bytes.overwrite(named_at, b"free");
    }
    let Some((movie, is_fragmented)) = movie(bytes, range.clone()) else {
        return bound_offsets(bytes, &range);
    };
    let mut hidden = Vec::new();
    let mut first = Vec::new();
    let mut emptied = Vec::new();
    let mut fragmented = None;
    let mut has_edits = false;
    let tracks = tracks(bytes, movie.clone());
    for atom in atoms(bytes, movie.clone()).filter(|atom| atom.name == *b"trak") {
        let track = tracks.iter().find(|track| track.atom == atom);
        let entry = track.and_then(|track| track.entry(bytes));
        let kind = entry.as_ref().map(|entry| &entry.kind);
        let is_read = match kind {
            _ if fragmented.is_some() => false,
            Some(Kind::Symphonia) => true,
            // Fragments are not demultiplexed here.
            Some(Kind::Coding(Coding::MpegAudio)) => is_fragmented,
            _ => false,
        };
        match (track, entry) {
            (Some(track), Some(entry)) if is_read => {
                if is_fragmented {
                    fragmented = fragments::track_number(bytes, &track.atom);
                    has_edits = inside(bytes, atom.content.clone(), &[b"edts", b"elst"]).is_some();
                }
                emptied.extend(entry.wave);
                if track.entries.len() > 1
                    && let Some(used) = track.used
                {
                    first.push((track.entries[0].start, track.entries[used].clone()));
                }
            }
            _ => hidden.push(atom.named_at),
        }
    }
    if let Some(track) = fragmented {
        fragments::prepare(bytes, &range, movie, track, has_edits);
    }
    bound_offsets(bytes, &range);
    for named_at in hidden {
        bytes.overwrite(named_at, b"free");
    }
    for wave in emptied {
        // `wave` becomes an empty box, so that its content follows it as siblings.
        bytes.overwrite(wave, b"\0\0\0\x08free");
    }
    for (place, entry) in first {
        // The entry in use is the first one or after it, so it fits.
        let content = bytes.slice(entry);
        bytes.overwrite(place, &content);
        bytes.overwrite(place - 4, &1_u32.to_be_bytes());
    }
}

/// Clamps all offsets that symphonia seeks to to the end of the file, for files like a truncated 3 GB film: with a 32-bit
/// `usize`, it panics at distances of 2 GiB and more.
fn bound_offsets(bytes: &mut Bytes, range: &Range<u64>) {
    let len = range.end - range.start;
    // Range of consecutive numbers, the width of each, and their maximum.
    let mut numbers: Vec<(Range<u64>, usize, u64)> = Vec::new();
    // Signed offsets of fragments, and their base.
    let mut offsets: Vec<(u64, u64)> = Vec::new();
    for atom in atoms(bytes, range.clone()) {
        let start = atom.named_at - 4;
        if atom.content.end == range.end {
            let (at, width) = match bytes.array_at(start).map(u32::from_be_bytes) {
                Some(1) => (start + 8, 8),
                _ => (start, 4),
            };
            numbers.push((at..at + width as u64, width, range.end - start));
        }
        let within = |outer: &Atom, name| {
            let inner = atoms(bytes, outer.content.clone());
            inner.filter(move |atom| atom.name == name)
        };
        match &atom.name {
            b"moov" => {
                for track in within(&atom, *b"trak") {
                    let path = [b"mdia", b"minf", b"stbl"];
                    let table = inside(bytes, track.content, &path).unwrap_or_default();
                    for (name, width) in [(b"stco", 4), (b"co64", 8)] {
                        if let Some(offsets) = inside(bytes, table.clone(), &[name]) {
                            numbers.push((offsets.start + 8..offsets.end, width, len));
                        }
                    }
                }
            }
            b"moof" => {
                for track in within(&atom, *b"traf") {
                    let mut base = start - range.start;
                    for header in within(&track, *b"tfhd") {
                        let at = header.content.start + 8;
                        if has_offset(bytes, &header)
                            && let Some(stated) = bytes.array_at(at).map(u64::from_be_bytes)
                        {
                            base = stated.min(len);
                            numbers.push((at..at + 8, 8, len));
                        }
                    }
                    let runs = within(&track, *b"trun").filter(|run| has_offset(bytes, run));
                    offsets.extend(runs.map(|run| (run.content.start + 8, base)));
                }
            }
            _ => {}
        }
    }
    for (range, width, most) in numbers {
        for at in range.clone().step_by(width) {
            let number = match width {
                4 => bytes.array_at(at).map(u32::from_be_bytes).map(u64::from),
                _ => bytes.array_at(at).map(u64::from_be_bytes),
            };
            if at + width as u64 <= range.end && number.is_some_and(|number| number > most) {
                bytes.overwrite(at, &most.to_be_bytes()[8 - width..]);
            }
        }
    }
    for (at, base) in offsets {
        let Some(offset) = bytes.array_at(at).map(i32::from_be_bytes) else {
            continue;
        };
        let target = base.saturating_add_signed(i64::from(offset)).min(len);
        let bounded = (target as i64 - base as i64) as i32;
        if bounded != offset {
            bytes.overwrite(at, &bounded.to_be_bytes());
        }
    }
}

/// Whether a box of a fragment has an offset: the lowest flag of `tfhd` and of `trun`.
fn has_offset(bytes: &Bytes, atom: &Atom) -> bool {
    bytes
        .array_at::<4>(atom.content.start)
        .is_some_and(|flags| flags[3] & 1 != 0)
}

/// The first audio track that can be decoded, and its edit list, if not the whole track is played; `None` if symphonia reads it.
pub(crate) fn open(
    bytes: &Arc<Bytes>,
    range: Range<u64>,
) -> Result<Option<(Content, Option<Edits>)>, Error> {
    let Some((movie, is_fragmented)) = movie(bytes, range.clone()) else {
        return Ok(None);
    };
    let mut refused = None;
    let hidden_too = |atom: &Atom| atom.name == *b"trak" || atom.name == *b"free";
    let tracks = atoms(bytes, movie.clone())
        .filter(hidden_too)
        .filter_map(|atom| Track::read(bytes, atom))
        .take(MAX_TRACKS);
    for track in tracks {
        let Some(entry) = track.entry(bytes) else {
            refused = refused.or(Some(if track.used.is_none() {
                unsupported("an mp4 track that changes its codec")
            } else {
                damaged("the MP4 file does not describe its samples")
            }));
            continue;
        };
        match entry.kind {
            Kind::Symphonia | Kind::Coding(Coding::MpegAudio) if is_fragmented => {
                return fragments::check(bytes, range).map(|()| None);
            }
            Kind::Symphonia => {
                let has = |name| inside(bytes, track.table.clone(), &[name]).is_some();
                return match has(b"stz2") && !has(b"stsz") {
                    true => Err(unsupported("an mp4 with compact sample sizes (stz2)")),
                    false => Ok(None),
                };
            }
            Kind::Named(name) => {
                refused = refused.or(Some(unsupported(&format!("the codec {name} in mp4"))));
            }
            Kind::Coding(_) if is_fragmented => {
                refused = refused.or(Some(unsupported("PCM, G.711 or ADPCM in a fragmented mp4")));
            }
            Kind::Coding(coding) => {
                let edits = Edits::read(bytes, time_scale(bytes, movie), &track.atom, false);
                return Ok(Some((content(bytes, &track, coding), edits)));
            }
        }
    }
    refused.map_or(Ok(None), Err)
}

/// The edit lists of all audio tracks that have one, by track ID.
pub(crate) fn edits(bytes: &Bytes, range: Range<u64>) -> Vec<(u32, Edits)> {
    let Some((movie, is_fragmented)) = movie(bytes, range) else {
        return Vec::new();
    };
    let scale = time_scale(bytes, movie.clone());
    tracks(bytes, movie)
        .into_iter()
        .filter_map(|track| {
            let edits = Edits::read(bytes, scale, &track.atom, is_fragmented)?;
            Some((fragments::track_number(bytes, &track.atom)?, edits))
        })
        .collect()
}

/// The time scale of a movie, the content of `moov`.
fn time_scale(bytes: &Bytes, movie: Range<u64>) -> Option<u64> {
    edits::time_scale(bytes, inside(bytes, movie, &[b"mvhd"])?)
}

fn content(bytes: &Arc<Bytes>, track: &Track, coding: Coding) -> Content {
    let table = |name| inside(bytes, track.table.clone(), &[name]);
    let long = |at| bytes.array_at(at).map_or(0, u32::from_be_bytes);
    let durations = table(b"stts").unwrap_or_default();
    // If each sample lasts one time unit, it is a PCM sample, and the bytes of a chunk follow from the block size.
    let is_one_frame = long(durations.start + 4) == 1 && long(durations.start + 12) == 1;
    let blocks = match &coding {
        Coding::Blocks(blocks) if is_one_frame => Some(blocks.clone()),
        _ => None,
    };
    let sizes = table(b"stsz").unwrap_or_default();
    let len = blocks
        .as_ref()
        .map(|blocks| u64::from(long(sizes.start + 8)) / blocks.frames * blocks.bytes);
    let (offsets, wide) = match table(b"stco") {
        Some(offsets) => (offsets, false),
        None => (table(b"co64").unwrap_or_default(), true),
    };
    Content {
        container: "mp4",
        coding,
        len,
        pieces: Box::new(Chunks {
            bytes: bytes.clone(),
            groups: table(b"stsc").unwrap_or_default(),
            group: 0,
            constant_size: long(sizes.start + 4),
            sizes,
            offsets,
            wide,
            blocks,
            chunk: 0,
            sample: 0,
        }),
    }
}

/// The chunks of a track, by its sample tables (ISO/IEC 14496-12, 8.6 and 8.7; QuickTime File Format).
struct Chunks {
    bytes: Arc<Bytes>,
    /// `stsc`: first chunk, samples per chunk, sample entry.
    groups: Range<u64>,
    /// Index of the entry of `stsc` that covers the next chunk.
    group: u64,
    /// `stsz`, and the common size of all samples, or 0.
    sizes: Range<u64>,
    constant_size: u32,
    /// `stco` or `co64`.
    offsets: Range<u64>,
    wide: bool,
    /// The format of the blocks, if a sample is a PCM sample.
    blocks: Option<Blocks>,
    /// Index from 0.
    chunk: u64,
    sample: u64,
}

impl Chunks {
    fn long(&self, at: u64, range: &Range<u64>) -> Option<u64> {
        let number = self.bytes.array_at(at).map(u32::from_be_bytes)?;
        (at + 4 <= range.end).then_some(u64::from(number))
    }

    /// Number of samples in the next chunk.
    fn samples(&mut self) -> Option<u64> {
        let entry = |group: u64| self.groups.start + 8 + 12 * group;
        while let Some(first) = self.long(entry(self.group + 1), &self.groups)
            && first <= self.chunk + 1
        {
            self.group += 1;
        }
        self.long(entry(self.group) + 4, &self.groups)
    }

    /// Bytes of the next `samples` samples.
    fn size(&self, samples: u64) -> u64 {
        if let Some(blocks) = &self.blocks {
            return (samples / blocks.frames).saturating_mul(blocks.bytes);
        }
        if self.constant_size > 0 {
            return samples.saturating_mul(u64::from(self.constant_size));
        }
        let size = |sample: u64| self.long(self.sizes.start + 12 + 4 * sample, &self.sizes);
        (self.sample..self.sample.saturating_add(samples))
            .map_while(size)
            .fold(0, u64::saturating_add)
    }
}

impl Pieces for Chunks {
    fn next(&mut self) -> Option<Piece> {
        let start = if self.wide {
            let at = self.offsets.start + 8 + 8 * self.chunk;
            let offset = self.bytes.array_at(at).map(u64::from_be_bytes)?;
            (at + 8 <= self.offsets.end).then_some(offset)?
        } else {
            self.long(self.offsets.start + 8 + 4 * self.chunk, &self.offsets)?
        };
        let samples = self.samples()?;
        let size = self.size(samples);
        self.chunk += 1;
        self.sample = self.sample.saturating_add(samples);
        Some(Piece::File(start..start.saturating_add(size)))
    }
}
