//! Detects windows without speech by their loudness.

/// A window whose loudest mel value is below this is silent. The rounding noise of 16-bit samples reaches -8.6, ten minutes of
/// samples with one random bit each -6.9; speech with its peak at -80 dB of full scale still reaches -6.1.
const SILENCE: f32 = -6.5;

/// Speech is within this many powers of ten (50 dB) of the loudest part of its recording; anything below is background noise,
/// which normalisation would make as loud as speech.
const LOUDNESS_RANGE: f32 = 5.0;

/// Returns whether a window with the loudest value `window` cannot contain speech, in a recording whose loudest value so far is
/// `recording`.
pub(super) fn is_silent(window: f32, recording: f32) -> bool {
    window < SILENCE || window < recording - LOUDNESS_RANGE
}

#[cfg(test)]
mod tests {
    use super::is_silent;
    use crate::features::loudest;

    #[test]
    fn rounding_noise_and_background_noise_are_silent_and_quiet_speech_is_not() {
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
}
