//! From log-mel frames to the encoder's input, and what the frames alone say about a stretch of audio: how loud it
//! is, whether there is anything in it, and where it pauses.
//!
//! Frames are `log10(max(mel power, 1e-10))`, row-major `[frames, n_mels]`.

/// The log10 of the power floor that frames are clamped to.
const FLOOR: f32 = -10.0;

/// Whisper keeps this many powers of ten below a window's loudest value.
const DYNAMIC_RANGE: f32 = 8.0;

/// A window whose loudest mel value is below this has nothing in it. The rounding noise of 16-bit samples reaches -8.6, and
/// one random bit in each of ten minutes' samples -6.9; speech whose peak is at -80 dB of full scale still reaches -6.1.
const SILENCE: f32 = -6.5;

/// Speech is within this many powers of ten (50 dB) of the loudest part of its recording; what is below is the
/// recording's own noise, which normalising would make as loud as speech.
const LOUDNESS_RANGE: f32 = 5.0;

/// Write one window into the encoder's input.
///
/// `frames` is `[frames, n_mels]`; `out` is `[n_mels, window]` with `window >= frames`. Clamped to 8 below the loudest value,
/// then `(x + 4) / 4`: the normalisation of OpenAI's `log_mel_spectrogram`. What is missing at the end is filled with zeros,
/// not with the floor that OpenAI's padding gives: noise before it is then known for what it is (no-speech probability above
/// 0.6 in 28 of 28 noises with `base`, 16 with the floor), and speech is heard as well.
pub(crate) fn normalise<T>(
    frames: &[f32],
    n_mels: usize,
    out: &mut [T],
    convert: impl Fn(f32) -> T,
) {
    let window = out.len() / n_mels;
    let floor = loudest(frames) - DYNAMIC_RANGE;
    let level = |x: f32| (x.max(floor) + 4.0) / 4.0;
    let rows = frames.len() / n_mels;
    for (mel, line) in out.chunks_exact_mut(window).enumerate() {
        for (frame, value) in line[..rows].iter_mut().enumerate() {
            *value = convert(level(frames[frame * n_mels + mel]));
        }
        for value in &mut line[rows..] {
            *value = convert(0.0);
        }
    }
}

/// The loudest mel value of the frames; -10 for none.
pub(crate) fn loudest(frames: &[f32]) -> f32 {
    frames.iter().copied().fold(FLOOR, f32::max)
}

/// Whether a window whose loudest value is `window` has nothing in it that could be speech, in a recording whose loudest
/// value so far is `recording`.
pub(crate) fn is_silent(window: f32, recording: f32) -> bool {
    window < SILENCE || window < recording - LOUDNESS_RANGE
}

/// How far below its window's mean power a pause is, in powers of ten (6 dB). Steady noises, hum, chords and music have no
/// stretch more than 4.2 dB below; speech in noise 10 dB below it pauses at 10.6 dB or more.
const PAUSE_DEPTH: f32 = 0.6;

/// The log10 of each frame's power over all mel bins.
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

/// Where to cut a window that is followed by more audio: the middle of the quietest `pause` frames in its later half, of
/// equal ones the last; or its end, where there is no pause that is [`PAUSE_DEPTH`] below the window's mean power, and so no
/// frame at which a cut is known to go through no word.
pub(crate) fn cut(frames: &[f32], n_mels: usize, pause: usize) -> usize {
    let levels = levels(frames, n_mels);
    let first = levels.len() / 2;
    let (quietest, index) = levels[first..]
        .windows(pause)
        .map(|stretch| stretch.iter().sum::<f32>() / pause as f32)
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
    use super::*;

    #[test]
    fn normalising_transposes_clamps_and_pads_with_zeros() {
        let frames = [0.0, -10.0, 1.0, -2.0];
        let mut out = [0f32; 6];
        normalise(&frames, 2, &mut out, |x| x);
        let low = (1.0 - 8.0 + 4.0) / 4.0;
        assert_eq!(out, [1.0, 1.25, 0.0, low, 0.5, 0.0]);
    }

    #[test]
    fn rounding_noise_and_a_recordings_own_noise_are_silent_and_a_whisper_is_not() {
        assert!(is_silent(loudest(&[-10.0, -9.4, -8.6]), -8.6));
        assert!(is_silent(-4.5, 1.0));
        assert!(!is_silent(-4.0, -4.0));
        assert!(!is_silent(-3.5, 1.0));
    }

    #[test]
    fn one_random_bit_is_silent_and_speech_far_below_full_scale_is_not() {
        // Ten minutes of 16-bit samples that are 0 or 1 reach -6.93, speech whose peak is at -80 dB -6.07.
        assert!(is_silent(-6.93, -6.93));
        assert!(!is_silent(-6.07, -6.07));
    }

    #[test]
    fn a_window_is_cut_in_the_middle_of_its_last_quietest_pause() {
        let mut levels = vec![0.0; 100];
        levels[10..30].fill(-9.0);
        levels[60..70].fill(-6.0);
        levels[80..90].fill(-6.0);
        assert_eq!(cut(&levels, 1, 10), 85);
    }

    #[test]
    fn a_window_whose_quietest_stretch_is_hardly_quieter_than_the_rest_is_not_cut() {
        let mut levels = vec![0.0; 100];
        levels[60..70].fill(-0.4);
        assert_eq!(cut(&levels, 1, 10), 100);
        levels[60..70].fill(-0.8);
        assert_eq!(cut(&levels, 1, 10), 65);
    }

    #[test]
    fn a_pause_in_the_earlier_half_is_no_place_to_cut() {
        let mut levels = vec![0.0; 100];
        levels[10..30].fill(-9.0);
        assert_eq!(cut(&levels, 1, 10), 100);
    }
}
