//! Movie fragments (ISO/IEC 14496-12, 8.8), of which symphonia reads one track rightly: with several it takes the defaults of a
//! track by its place instead of its number, every track's data to be counted from the start of the fragment, and stops at the first
//! sample of any track that is missing. It also passes over a fragment with no `mdat` behind it, panics at some flags of a first
//! sample, goes through samples that have no bytes, and for each sample adds up the durations of all before it in the run.

use std::collections::BTreeMap;
use std::ops::Range;

use super::boxes::{Atom, atoms, inside};
use crate::error::{damaged, unsupported};
use crate::{Bytes, Error};

/// Flags of `tfhd`.
const BASE_DATA_OFFSET: u32 = 0x1;
const SAMPLE_DESCRIPTION: u32 = 0x2;
const DEFAULT_DURATION: u32 = 0x8;
const DEFAULT_SIZE: u32 = 0x10;
const BASE_IS_MOOF: u32 = 0x2_0000;

/// Flags of `trun`.
const DATA_OFFSET: u32 = 0x1;
const FIRST_SAMPLE_FLAGS: u32 = 0x4;
const SAMPLE_DURATION: u32 = 0x100;
const SAMPLE_SIZE: u32 = 0x200;
const SAMPLE_FLAGS: u32 = 0x400;
const SAMPLE_COMPOSITION: u32 = 0x800;

/// Bytes of the content of `trex`, and where in it the durations and the sizes of samples stand.
const DEFAULTS: u64 = 24;
const DEFAULT_DURATION_AT: u64 = 12;
const DEFAULT_SIZE_AT: u64 = 16;

/// Samples of a run whose durations are left out, if nearly all are the default: together they may differ by those of so many samples.
/// The times behind are off by that. Without an edit list times are not used, so the durations may be any.
const LONG_RUN: u32 = 1024;
const MAX_DIFFERENCE: u64 = 8;

/// Of how many tracks the defaults are read; films in many languages have a few dozen.
const MAX_TRACKS: usize = 256;

/// Change the fragments of a track to a form that symphonia reads as it is meant, and hide all others. `movie` is the content of
/// `moov`, in the file `range`.
pub(super) fn prepare(
    bytes: &mut Bytes,
    range: &Range<u64>,
    movie: Range<u64>,
    track: u32,
    has_edits: bool,
) {
    let sizes = default(bytes, movie.clone(), DEFAULT_SIZE_AT);
    let durations = default(bytes, movie.clone(), DEFAULT_DURATION_AT);
    let len = range.end - range.start;
    // Offsets and other numbers, by where they stand.
    let mut offsets = Vec::new();
    let mut numbers = Vec::new();
    let mut entries_of_runs = Vec::new();
    for fragment in named(bytes, range.clone(), *b"moof") {
        let start = fragment.named_at - 4;
        let mut base = start - range.start;
        for track in named(bytes, fragment.content, *b"traf") {
            let Some(header) = Header::read(bytes, &track) else {
                continue;
            };
            let own = header.base.unwrap_or(match header.flags & BASE_IS_MOOF {
                0 => base,
                _ => start - range.start,
            });
            let default = sizes.get(&header.track).copied().unwrap_or(0);
            let default = header.default_size.unwrap_or(default);
            let duration = durations.get(&header.track).copied();
            let duration = header.default_duration.or(duration);
            let mut end = own;
            for run in named(bytes, track.content, *b"trun") {
                let Some(flags) = flags(bytes, &run) else {
                    continue;
                };
                if flags & DATA_OFFSET != 0
                    && let Some(offset) = bytes.array_at(run.content.start + 8)
                {
                    end = own.saturating_add_signed(i64::from(i32::from_be_bytes(offset)));
                    let counted_from = header.base.unwrap_or(start - range.start);
                    if counted_from != own {
                        offsets.push((run.content.start + 8, end.wrapping_sub(counted_from)));
                    }
                }
                if flags & FIRST_SAMPLE_FLAGS != 0 {
                    let at = run.content.start + 8 + width(flags, DATA_OFFSET);
                    numbers.push((at, 0));
                }
                if flags & SAMPLE_SIZE == 0 && default > 0 {
                    // The last of these begins at the end of the file or behind it.
                    let most = len.saturating_sub(end) / u64::from(default) + 1;
                    if u64::from(count(bytes, &run)) > most {
                        numbers.push((run.content.start + 4, most as u32));
                    }
                }
                end = end.saturating_add(size(bytes, &run, flags, default));
                if let Some(entries) = without_durations(bytes, &run, flags, duration, has_edits) {
                    let word = bytes
                        .array_at(run.content.start)
                        .map_or(0, u32::from_be_bytes);
                    numbers.push((run.content.start, word & !SAMPLE_DURATION));
                    entries_of_runs.push((entries_at(&run, flags), entries));
                }
            }
            base = end;
        }
    }
    for (at, number) in numbers {
        bytes.overwrite(at, &number.to_be_bytes());
    }
    for (at, entries) in entries_of_runs {
        bytes.overwrite(at, &entries);
    }
    for (at, offset) in offsets {
        // What has no place in 32 bits is behind the end of the file, or is bounded there.
        let offset = i32::try_from(offset as i64).unwrap_or(i32::MAX);
        bytes.overwrite(at, &offset.to_be_bytes());
    }
    hide_others(bytes, range, movie, track);
    close(bytes, range);
}

/// Check that the fragments that [`prepare`] has left, in the file `range`, can be read.
pub(super) fn check(bytes: &Bytes, range: Range<u64>) -> Result<(), Error> {
    let named_error = |name| Err(unsupported(&format!("an mp4 of fragments {name}")));
    let len = range.end - range.start;
    // Those whose sizes are not listed one by one. Symphonia goes through them even if they have no bytes.
    let mut samples = 0;
    for fragment in named(bytes, range, *b"moof") {
        let mut seen = false;
        // Those before are hidden, if they are of other tracks.
        let hidden_too = |atom: &Atom| atom.name == *b"traf" || atom.name == *b"free";
        let tracks = atoms(bytes, fragment.content).filter(hidden_too);
        for (index, of) in tracks.enumerate().filter(|(_, of)| of.name == *b"traf") {
            let Some(header) = Header::read(bytes, &of) else {
                continue;
            };
            samples += named(bytes, of.content.clone(), *b"trun")
                .filter(|run| flags(bytes, run).is_some_and(|flags| flags & SAMPLE_SIZE == 0))
                .map(|run| u64::from(count(bytes, &run)))
                .sum::<u64>();
            if samples > len {
                return Err(damaged(
                    "the MP4 file states more samples than it has bytes",
                ));
            }
            if std::mem::replace(&mut seen, true) {
                return named_error("with one track twice");
            }
            let counts_from_another =
                index > 0 && header.base.is_none() && header.flags & BASE_IS_MOOF == 0;
            let first = named(bytes, of.content, *b"trun").next();
            let states_offset = first
                .and_then(|run| flags(bytes, &run))
                .is_none_or(|flags| flags & DATA_OFFSET != 0);
            if counts_from_another && !states_offset {
                return named_error("whose tracks follow each other without offsets");
            }
        }
    }
    Ok(())
}

/// The number of a track, the box `trak`.
pub(super) fn track_number(bytes: &Bytes, track: &Atom) -> Option<u32> {
    let header = inside(bytes, track.content.clone(), &[b"tkhd"])?;
    let [version, ..] = bytes.array_at::<4>(header.start)?;
    let at = header.start + if version == 1 { 20 } else { 12 };
    bytes.array_at(at).map(u32::from_be_bytes)
}

/// Hide all tracks but one, which symphonia would read too, up to the first of their samples that the file does not have: `traf` in
/// fragments, and `trex`, of which it takes the first for the first track. Fragments without samples of the track are hidden as a
/// whole: symphonia would go through all of them for each of its samples.
fn hide_others(bytes: &mut Bytes, range: &Range<u64>, movie: Range<u64>, track: u32) {
    let is_own = |bytes: &Bytes, content: &Range<u64>| {
        bytes.array_at(content.start + 4).map(u32::from_be_bytes) == Some(track)
    };
    let extends = inside(bytes, movie, &[b"mvex"]).unwrap_or_default();
    let mut hidden: Vec<u64> = named(bytes, extends, *b"trex")
        .filter(|defaults| !is_own(bytes, &defaults.content))
        .map(|defaults| defaults.named_at)
        .collect();
    let mut rest = range.clone();
    loop {
        for named_at in hidden.drain(..) {
            bytes.overwrite(named_at, b"free");
        }
        let Some(fragment) = named(bytes, rest.clone(), *b"moof").next() else {
            break;
        };
        rest.start = fragment.content.end;
        let tracks = named(bytes, fragment.content, *b"traf");
        let (own, of_others): (Vec<_>, Vec<_>) = tracks.partition(|of| {
            named(bytes, of.content.clone(), *b"tfhd")
                .next()
                .is_some_and(|header| is_own(bytes, &header.content))
        });
        let has_samples = own
            .into_iter()
            .flat_map(|of| named(bytes, of.content, *b"trun"))
            .any(|run| count(bytes, &run) > 0);
        if has_samples {
            hidden.extend(of_others.iter().map(|of| of.named_at));
        } else {
            hidden.push(fragment.named_at);
        }
    }
}

/// Put an empty `mdat` behind the last fragment, if its data come before it.
fn close(bytes: &mut Bytes, range: &Range<u64>) {
    let (mut is_open, mut end) = (false, range.start);
    for atom in atoms(bytes, range.clone()) {
        match &atom.name {
            b"moof" => is_open = true,
            b"mdat" => is_open = false,
            _ => {}
        }
        end = atom.content.end;
    }
    if is_open {
        let lacking = (end + 8).saturating_sub(bytes.len());
        bytes.append(vec![0; lacking as usize]);
        bytes.overwrite(end, b"\0\0\0\x08mdat");
    }
}

/// A number of `trex`, for where a fragment does not say, by track.
fn default(bytes: &Bytes, movie: Range<u64>, at: u64) -> BTreeMap<u32, u32> {
    defaults(bytes, movie)
        .filter_map(|place| {
            let number = bytes.array_at(place.start + 4).map(u32::from_be_bytes)?;
            let value = bytes.array_at(place.start + at).map(u32::from_be_bytes)?;
            Some((number, value))
        })
        .collect()
}

/// The content of each box `trex`.
fn defaults(bytes: &Bytes, movie: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
    let extends = inside(bytes, movie, &[b"mvex"]).unwrap_or_default();
    named(bytes, extends, *b"trex")
        .map(|atom| atom.content)
        .filter(|content| content.end - content.start == DEFAULTS)
        .take(MAX_TRACKS)
}

fn named(bytes: &Bytes, range: Range<u64>, name: [u8; 4]) -> impl Iterator<Item = Atom> + '_ {
    atoms(bytes, range).filter(move |atom| atom.name == name)
}

/// The lower three bytes of the first four.
fn flags(bytes: &Bytes, atom: &Atom) -> Option<u32> {
    let word = bytes.array_at(atom.content.start).map(u32::from_be_bytes)?;
    Some(word & 0x00FF_FFFF)
}

/// What `tfhd` says.
struct Header {
    track: u32,
    flags: u32,
    base: Option<u64>,
    default_duration: Option<u32>,
    default_size: Option<u32>,
}

impl Header {
    fn read(bytes: &Bytes, track: &Atom) -> Option<Self> {
        let atom = named(bytes, track.content.clone(), *b"tfhd").next()?;
        let flags = flags(bytes, &atom)?;
        let number = bytes.array_at(atom.content.start + 4)?;
        let mut at = atom.content.start + 8;
        let mut base = None;
        if flags & BASE_DATA_OFFSET != 0 {
            base = Some(u64::from_be_bytes(bytes.array_at(at)?));
            at += 8;
        }
        at += width(flags, SAMPLE_DESCRIPTION);
        let default_duration = match flags & DEFAULT_DURATION {
            0 => None,
            _ => Some(u32::from_be_bytes(bytes.array_at(at)?)),
        };
        at += width(flags, DEFAULT_DURATION);
        let default_size = match flags & DEFAULT_SIZE {
            0 => None,
            _ => Some(u32::from_be_bytes(bytes.array_at(at)?)),
        };
        Some(Self {
            track: u32::from_be_bytes(number),
            flags,
            base,
            default_duration,
            default_size,
        })
    }
}

/// Bytes of a field that is there if its flag is.
fn width(flags: u32, flag: u32) -> u64 {
    if flags & flag != 0 { 4 } else { 0 }
}

/// Where the entries of a run begin, one for each sample.
fn entries_at(run: &Atom, flags: u32) -> u64 {
    run.content.start + 8 + width(flags, DATA_OFFSET) + width(flags, FIRST_SAMPLE_FLAGS)
}

/// Bytes of an entry of a run.
fn entry_width(flags: u32) -> u64 {
    [
        SAMPLE_DURATION,
        SAMPLE_SIZE,
        SAMPLE_FLAGS,
        SAMPLE_COMPOSITION,
    ]
    .map(|flag| width(flags, flag))
    .iter()
    .sum()
}

/// The entries of a long run without their durations; none where they are needed, or not there.
fn without_durations(
    bytes: &Bytes,
    run: &Atom,
    flags: u32,
    default: Option<u32>,
    has_edits: bool,
) -> Option<Vec<u8>> {
    let (count, default) = (count(bytes, run), default?);
    if flags & SAMPLE_DURATION == 0 || count < LONG_RUN {
        return None;
    }
    let (first, step) = (entries_at(run, flags), entry_width(flags));
    if first + u64::from(count) * step > run.content.end {
        return None;
    }
    let entries = bytes.slice(first..first + u64::from(count) * step);
    let entries = entries.chunks_exact(step as usize);
    let difference: u64 = entries
        .clone()
        .filter_map(|entry| entry.first_chunk().copied())
        .map(|duration| u64::from(u32::from_be_bytes(duration).abs_diff(default)))
        .sum();
    (!has_edits || difference <= MAX_DIFFERENCE * u64::from(default))
        .then(|| entries.flat_map(|entry| &entry[4..]).copied().collect())
}

/// How many samples a run has, the box `trun`.
fn count(bytes: &Bytes, run: &Atom) -> u32 {
    let count = bytes.array_at(run.content.start + 4);
    count.map_or(0, u32::from_be_bytes)
}

/// Bytes of all samples of a run.
fn size(bytes: &Bytes, run: &Atom, flags: u32, default: u32) -> u64 {
    let count = count(bytes, run);
    if flags & SAMPLE_SIZE == 0 {
        return u64::from(count) * u64::from(default);
    }
    let first = entries_at(run, flags) + width(flags, SAMPLE_DURATION);
    let step = entry_width(flags);
    (0..u64::from(count))
        .map(|sample| first + sample * step)
        .take_while(|at| at + 4 <= run.content.end)
        .filter_map(|at| bytes.array_at(at).map(u32::from_be_bytes))
        .map(u64::from)
        .sum()
}
