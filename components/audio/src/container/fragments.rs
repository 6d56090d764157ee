//! Movie fragments (ISO/IEC 14496-12, 8.8). symphonia reads only a single track correctly: with several it selects a track's
//! defaults by index instead of track number, assumes that every track's data is relative to the start of the fragment, and stops
//! at the first missing sample of any track. It also skips a fragment that no `mdat` follows, panics at some first-sample flags,
//! iterates over samples without bytes, and for each sample sums the durations of all previous ones in the run.

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

/// Bytes of the content of `trex`, and offsets of the default sample duration and size in it.
const DEFAULTS: u64 = 24;
const DEFAULT_DURATION_AT: u64 = 12;
const DEFAULT_SIZE_AT: u64 = 16;

/// Minimum samples of a run whose durations are removed: if nearly all are the default, or, without an edit list, in any case, because
/// times are not used then.
const LONG_RUN: u32 = 1024;
/// Maximum total deviation from the default durations, in default durations. Later times are off by at most that.
const MAX_DIFFERENCE: u64 = 8;

/// Maximum tracks whose defaults are read; films in many languages have a few dozen.
const MAX_TRACKS: usize = 256;

/// Rewrites the fragments of a track so that symphonia reads them correctly, and hides all other tracks. `movie` is the content of
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
    // Offsets and other numbers to write, by position.
    let mut offsets = Vec::new();
    let mut numbers = Vec::new();
    let mut entries_of_runs = Vec::new();
    for fragment in named(bytes, range.clone(), *b"moof") {
        let start = fragment.named_at - 4;
        let mut base = start - range.start;
        for of in named(bytes, fragment.content, *b"traf") {
            let Some(header) = Header::read(bytes, &of) else {
                continue;
            };
            // Of the other tracks, which are hidden below, only the end of the data matters: the next track may start there.
            let is_own = header.track == track;
            let own = header.base.unwrap_or(match header.flags & BASE_IS_MOOF {
                0 => base,
                _ => start - range.start,
            });
            let default = sizes.get(&header.track).copied().unwrap_or(0);
            let default = header.default_size.unwrap_or(default);
            let duration = durations.get(&header.track).copied();
            let duration = header.default_duration.or(duration);
            let mut end = own;
            for run in named(bytes, of.content, *b"trun") {
                let Some(flags) = flags(bytes, &run) else {
                    continue;
                };
                if flags & DATA_OFFSET != 0
                    && let Some(offset) = bytes.array_at(run.content.start + 8)
                {
                    end = own.saturating_add_signed(i64::from(i32::from_be_bytes(offset)));
                    let counted_from = header.base.unwrap_or(start - range.start);
                    if is_own && counted_from != own {
                        offsets.push((run.content.start + 8, end.wrapping_sub(counted_from)));
                    }
                }
                let data = end;
                end = end.saturating_add(size(bytes, &run, flags, default));
                if !is_own {
                    continue;
                }
                if flags & FIRST_SAMPLE_FLAGS != 0 {
                    let at = run.content.start + 8 + width(flags, DATA_OFFSET);
                    numbers.push((at, 0));
                }
                if flags & SAMPLE_SIZE == 0 && default > 0 {
                    // The last of these starts at or past the end of the file.
                    let most = len.saturating_sub(data) / u64::from(default) + 1;
                    if u64::from(count(bytes, &run)) > most {
                        numbers.push((run.content.start + 4, most as u32));
                    }
                }
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
        // An offset that does not fit into 32 bits is past the end of the file, and clamped there.
        let offset = i32::try_from(offset as i64).unwrap_or(i32::MAX);
        bytes.overwrite(at, &offset.to_be_bytes());
    }
    hide_others(bytes, range, movie, track);
    close(bytes, range);
}

/// Checks that the fragments left by [`prepare`] in the file `range` can be read.
pub(super) fn check(bytes: &Bytes, range: Range<u64>) -> Result<(), Error> {
    let named_error = |name| Err(unsupported(&format!("a fragmented mp4 {name}")));
    let len = range.end - range.start;
    // Samples without individual sizes. symphonia iterates over them even if they have no bytes.
    let mut samples = 0;
    for fragment in named(bytes, range, *b"moof") {
        let mut seen = false;
        // Fragments of other tracks are hidden.
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
                return named_error("with a track twice in a fragment");
            }
            let counts_from_another =
                index > 0 && header.base.is_none() && header.flags & BASE_IS_MOOF == 0;
            let first = named(bytes, of.content, *b"trun").next();
            let states_offset = first
                .and_then(|run| flags(bytes, &run))
                .is_none_or(|flags| flags & DATA_OFFSET != 0);
            if counts_from_another && !states_offset {
                return named_error("with several tracks without data offsets");
            }
        }
    }
    Ok(())
}

/// The track ID of a track, the box `trak`.
pub(super) fn track_number(bytes: &Bytes, track: &Atom) -> Option<u32> {
    let header = inside(bytes, track.content.clone(), &[b"tkhd"])?;
    let [version, ..] = bytes.array_at::<4>(header.start)?;
    let at = header.start + if version == 1 { 20 } else { 12 };
    bytes.array_at(at).map(u32::from_be_bytes)
}

/// Hides all tracks but one: `traf` in fragments, because symphonia would read them too, up to their first missing sample, and
/// `trex`, because it uses the first one for the first track. Fragments without samples of the track are hidden completely, because
/// symphonia would iterate over all of them for each of the track's samples.
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

/// Adds an empty `mdat` after the last fragment, if its data precede it.
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

/// A default value in `trex`, by track.
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

/// The content of `tfhd`.
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

/// Bytes of an optional field: 0 if its flag is not set.
fn width(flags: u32, flag: u32) -> u64 {
    if flags & flag != 0 { 4 } else { 0 }
}

/// Offset of the sample entries of a run.
fn entries_at(run: &Atom, flags: u32) -> u64 {
    run.content.start + 8 + width(flags, DATA_OFFSET) + width(flags, FIRST_SAMPLE_FLAGS)
}

/// Bytes per sample entry of a run.
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

/// The entries of a long run without their durations; `None` if they are needed or absent.
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

/// Number of samples in a run, the box `trun`.
fn count(bytes: &Bytes, run: &Atom) -> u32 {
    let count = bytes.array_at(run.content.start + 4);
    count.map_or(0, u32::from_be_bytes)
}

/// Total bytes of the samples of a run.
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
