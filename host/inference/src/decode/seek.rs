//! Splits a window's tokens into segments, and finds where the next window begins.

use std::ops::Range;

/// A segment of a window as tokens, before they are decoded to text.
#[derive(Debug, PartialEq)]
pub(crate) struct Piece {
    /// Frames from the start of the window.
    pub frames: Range<usize>,
    /// Text tokens and timestamps.
    pub tokens: Vec<u32>,
}

/// Converts timestamp tokens to frames.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    /// The token of the timestamp 0.00.
    pub timestamp_begin: u32,
    /// Frames per timestamp step.
    pub frames_per_timestamp: usize,
}

impl Clock {
    fn is_stamp(self, token: u32) -> bool {
        token >= self.timestamp_begin
    }

    fn frame(self, stamp: u32) -> usize {
        stamp.saturating_sub(self.timestamp_begin) as usize * self.frames_per_timestamp
    }
}

/// Divides the tokens of a window of `frames` frames into pieces, and returns how many frames to advance: more than 0.
///
/// As in `transcribe.py` of the reference: two consecutive timestamps close one segment and open the next. If the window ends in an
/// open segment, the next window begins where the last segment was closed; if it ends in a single timestamp, nothing follows it,
/// and the next window begins at the end of this one. Without a pair, the window is one segment.
pub(crate) fn divide(tokens: &[u32], frames: usize, clock: Clock) -> (Vec<Piece>, usize) {
    let stamp_at = |index: usize| clock.is_stamp(tokens[index]);
    let single_ending =
        tokens.len() >= 2 && !stamp_at(tokens.len() - 2) && stamp_at(tokens.len() - 1);
    let mut cuts: Vec<usize> = (1..tokens.len())
        .filter(|&index| stamp_at(index - 1) && stamp_at(index))
        .collect();
    if cuts.is_empty() {
        let end = tokens
            .iter()
            .rev()
            .find(|token| clock.is_stamp(**token))
            .map_or(0, |&stamp| clock.frame(stamp));
        let end = if end == 0 { frames } else { end.min(frames) };
        let piece = Piece {
            frames: 0..end,
            tokens: tokens.to_vec(),
        };
        return (vec![piece], frames);
    }
    if single_ending {
        cuts.push(tokens.len());
    }
    let mut start = 0;
    let mut pieces = Vec::with_capacity(cuts.len());
    for &cut in &cuts {
        let part = &tokens[start..cut];
        let first = clock.frame(part[0]);
        let last = clock.frame(part[part.len() - 1]).min(frames);
        // After the audio there is only padding, and no speech.
        if first < frames {
            pieces.push(Piece {
                frames: first..last.max(first),
                tokens: part.to_vec(),
            });
        }
        start = cut;
    }
    let closed = clock.frame(tokens[start - 1]);
    // A shorter step would decode the same audio again and again.
    let shortest = frames.div_ceil(50);
    let advance = if single_ending {
        frames
    } else {
        closed.clamp(shortest, frames)
    };
    (pieces, advance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Clock = Clock {
        timestamp_begin: 100,
        frames_per_timestamp: 2,
    };

    fn spans(pieces: &[Piece]) -> Vec<Range<usize>> {
        pieces.iter().map(|piece| piece.frames.clone()).collect()
    }

    #[test]
    fn pairs_close_segments_and_the_next_window_begins_after_the_last() {
        let (pieces, advance) = divide(&[100, 1, 200, 200, 2, 350, 350, 3], 1000, CLOCK);
        assert_eq!(spans(&pieces), [0..200, 200..500]);
        assert_eq!(pieces[1].tokens, [200, 2, 350]);
        assert_eq!(advance, 500);
    }

    #[test]
    fn a_single_timestamp_at_the_end_means_that_nothing_follows() {
        let (pieces, advance) = divide(&[100, 1, 200, 200, 2, 350], 1000, CLOCK);
        assert_eq!(spans(&pieces), [0..200, 200..500]);
        assert_eq!(advance, 1000);
    }

    #[test]
    fn without_a_pair_the_window_is_one_segment_up_to_its_last_timestamp() {
        let (pieces, advance) = divide(&[100, 1, 2, 400], 1000, CLOCK);
        assert_eq!((pieces.len(), &pieces[0].frames), (1, &(0..600)));
        assert_eq!(advance, 1000);
        let (pieces, _) = divide(&[100, 1, 2], 1000, CLOCK);
        assert_eq!((pieces.len(), &pieces[0].frames), (1, &(0..1000)));
    }

    #[test]
    fn seeking_always_advances() {
        assert_eq!(divide(&[100, 100], 1000, CLOCK).1, 20);
        assert_eq!(divide(&[100, 1, 101, 101, 2], 1000, CLOCK).1, 20);
        assert_eq!(divide(&[], 7, CLOCK).1, 7);
        assert_eq!(divide(&[100, 1, 900, 900], 7, CLOCK).1, 7);
    }

    #[test]
    fn segments_stay_inside_the_window() {
        let (pieces, _) = divide(&[100, 1, 200, 200, 2, 450], 300, CLOCK);
        assert_eq!(spans(&pieces), [0..200, 200..300]);
        let (pieces, _) = divide(&[100, 1, 190, 250, 2, 300], 200, CLOCK);
        assert_eq!((pieces.len(), &pieces[0].frames), (1, &(0..180)));
    }
}
