//! Edit lists of MP4 and QuickTime: which parts of a track are played (ISO/IEC 14496-12, 8.6.5 and 8.6.6). A recording
//! trimmed without re-encoding still contains the removed parts.

use std::ops::Range;

use super::boxes::{Atom, inside};
use crate::Bytes;

/// Maximum parts of a track. A recording cut in an editor has a few dozen.
const MAX_PARTS: usize = 4096;

/// The played parts of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Edits {
    /// Parts of the media, in ascending order, in units of its time scale.
    Parts { parts: Vec<Range<u64>>, scale: u64 },
    /// Not supported, by name.
    Unsupported(&'static str),
}

impl Edits {
    /// The edit list of a track, the box `trak`; `None` if the whole track is played. `movie_scale` is the time scale of the movie. A
    /// fragmented track is played to its end, since the list may be older than the fragments.
    pub(crate) fn read(
        bytes: &Bytes,
        movie_scale: Option<u64>,
        track: &Atom,
        is_fragmented: bool,
    ) -> Option<Self> {
        let list = inside(bytes, track.content.clone(), &[b"edts", b"elst"])?;
        let movie_scale = movie_scale?;
        let scale = time_scale(
            bytes,
            inside(bytes, track.content.clone(), &[b"mdia", b"mdhd"])?,
        )?;
        let [version, ..] = bytes.array_at::<4>(list.start)?;
        let count = u64::from(u32::from_be_bytes(bytes.array_at(list.start + 4)?));
        let width = if version == 1 { 20 } else { 12 };
        // The length of an edit is in units of the movie's time scale, and may be rounded down by almost one unit.
        let unit = scale.div_ceil(movie_scale);
        let mut parts: Vec<Range<u64>> = Vec::new();
        let count = count.min(list.end.saturating_sub(list.start + 8) / width);
        for index in 0..count {
            let at = list.start + 8 + index * width;
            let (length, start) = match version {
                1 => (
                    u64::from_be_bytes(bytes.array_at(at)?),
                    i64::from_be_bytes(bytes.array_at(at + 8)?),
                ),
                _ => (
                    u64::from(u32::from_be_bytes(bytes.array_at(at)?)),
                    i64::from(i32::from_be_bytes(bytes.array_at(at + 4)?)),
                ),
            };
            // An empty edit, a pause before the track starts, has no media.
            let Ok(start) = u64::try_from(start) else {
                continue;
            };
            let length = u128::from(length) * u128::from(scale) / u128::from(movie_scale);
            let end = match u64::try_from(length) {
                Ok(0) if index + 1 < count => continue,
                // To the end, as in fragmented files, whose length is not known in advance.
                Ok(0) | Err(_) => u64::MAX,
                Ok(length) => start.saturating_add(length).saturating_add(unit),
            };
            let is_full = parts.len() == MAX_PARTS;
            match parts.last_mut() {
                Some(last) if start.saturating_add(unit) < last.end.saturating_sub(unit) => {
                    return Some(Self::Unsupported(
                        "an edit list that repeats or reorders parts of a recording",
                    ));
                }
                Some(last) if start <= last.end => last.end = last.end.max(end),
                _ if is_full => {
                    return Some(Self::Unsupported("an edit list with more than 4096 parts"));
                }
                _ => parts.push(start..end),
            }
        }
        if is_fragmented && let Some(first) = parts.first() {
            let fragments = first.start.max(length_of_samples(bytes, track));
            parts.retain(|part| part.start < fragments);
            match parts.last_mut() {
                Some(last) if fragments <= last.end => last.end = u64::MAX,
                _ => parts.push(fragments..u64::MAX),
            }
        }
        (!parts.is_empty()).then_some(Self::Parts { parts, scale })
    }

    /// Retains only the played samples. `samples` start at index `start`, at `rate` Hz.
    pub(crate) fn apply(&self, start: i64, rate: u32, samples: &mut Vec<f32>) {
        let Self::Parts { parts, scale } = self else {
            return;
        };
        let number = |time: u64| {
            let samples = u128::from(time) * u128::from(rate) / u128::from(*scale);
            i64::try_from(samples).unwrap_or(i64::MAX)
        };
        let length = samples.len() as i64;
        let place = |time: u64| number(time).saturating_sub(start).clamp(0, length) as usize;
        let first = parts.partition_point(|part| number(part.end) <= start);
        let kept: Vec<Range<usize>> = parts[first..]
            .iter()
            .map(|part| place(part.start)..place(part.end))
            .take_while(|kept| kept.start < samples.len())
            .collect();
        let mut left = 0;
        for range in kept {
            let count = range.len();
            samples.copy_within(range, left);
            left += count;
        }
        samples.truncate(left);
    }
}

/// Total duration of the samples of a track outside of fragments.
fn length_of_samples(bytes: &Bytes, track: &Atom) -> u64 {
    let path = [b"mdia", b"minf", b"stbl", b"stts"];
    let table = inside(bytes, track.content.clone(), &path).unwrap_or_default();
    (table.start + 8..table.end)
        .step_by(8)
        .map_while(|at| bytes.array_at(at).map(u64::from_be_bytes))
        .map(|entry| (entry >> 32) * (entry & u64::from(u32::MAX)))
        .fold(0, u64::saturating_add)
}

/// Time units per second, from `mvhd` or `mdhd`; `None` for zero.
pub(crate) fn time_scale(bytes: &Bytes, header: Range<u64>) -> Option<u64> {
    let [version, ..] = bytes.array_at::<4>(header.start)?;
    let at = header.start + if version == 1 { 20 } else { 12 };
    let scale = u64::from(u32::from_be_bytes(bytes.array_at(at)?));
    (scale > 0).then_some(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(parts: &[(u64, u64)], start: i64, length: usize) -> Vec<f32> {
        let mut samples = (0..length).map(|n| (start + n as i64) as f32).collect();
        let parts = parts.iter().map(|&(start, end)| start..end).collect();
        Edits::Parts { parts, scale: 2 }.apply(start, 4, &mut samples);
        samples
    }

    #[test]
    fn only_played_samples_are_retained() {
        assert_eq!(applied(&[(1, 3)], 0, 10), [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(applied(&[(1, 3)], 4, 10), [4.0, 5.0]);
        let two = [(0, 1), (3, u64::MAX)];
        assert_eq!(applied(&two, 0, 8), [0.0, 1.0, 6.0, 7.0]);
        assert_eq!(applied(&[(1, 3)], 6, 10), [0.0; 0]);
        assert_eq!(applied(&[(5, 9)], 0, 10), [0.0; 0]);
        assert_eq!(applied(&[(0, 1)], -2, 5), [0.0, 1.0]);
    }
}
