//! Finds pauses in speech.

/// How far below its window's mean power a pause must be, in powers of ten (6 dB). Steady noise, hum, chords and music never fall
/// more than 4.2 dB below it; speech with noise 10 dB below it falls 10.6 dB or more in pauses.
const PAUSE_DEPTH: f32 = 0.6;

/// Returns the log10 of each frame's power over all mel bins.
fn levels(frames: &[f32], n_mels: usize) -> Vec<f32> {
    frames
        .chunks_exact(n_mels)
        .map(|frame| {
            frame
                .iter()
                .map(|&mel| 10f32.powf(mel))
                .sum::<f32>()
                .log10()
        })
        .collect()
}

/// Returns where to cut a window that is followed by more audio: the middle of the quietest `pause` frames in its later half, the
/// last of equally quiet ones. If they are not [`PAUSE_DEPTH`] below the window's mean power, any cut could be within a word, and
/// the window is cut at its end.
pub(super) fn cut(frames: &[f32], n_mels: usize, pause: usize) -> usize {
    let levels = levels(frames, n_mels);
    let first = levels.len() / 2;
    let (quietest, index) = levels[first..]
        .windows(pause)
        .map(|frames| frames.iter().sum::<f32>() / pause as f32)
        .enumerate()
        .fold((f32::INFINITY, 0), |best, (index, level)| {
            if level <= best.0 {
                (level, index)
            } else {
                best
            }
        });
    let power: f32 = levels.iter().map(|level| 10f32.powf(*level)).sum();
    if quietest <= (power / levels.len() as f32).log10() - PAUSE_DEPTH {
        first + index + pause / 2
    } else {
        levels.len()
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_window_is_cut_in_the_middle_of_its_last_quietest_pause() {
        let mut levels = vec![0.0; 100];
        levels[10..30].fill(-9.0);
        levels[60..70].fill(-6.0);
        levels[80..90].fill(-6.0);
        assert_eq!(cut(&levels, 1, 10), 85);
    }

    #[test]
    fn a_window_without_a_clear_pause_is_not_cut() {
        let mut levels = vec![0.0; 100];
        levels[60..70].fill(-0.4);
        assert_eq!(cut(&levels, 1, 10), 100);
        levels[60..70].fill(-0.8);
        assert_eq!(cut(&levels, 1, 10), 65);
    }

    #[test]
    fn a_window_is_not_cut_in_its_earlier_half() {
        let mut levels = vec![0.0; 100];
        levels[10..30].fill(-9.0);
        assert_eq!(cut(&levels, 1, 10), 100);
    }
}
