//! Decides whether a window's text is accepted or the window is decoded again at a higher temperature.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::attempt::Attempt;
use crate::Options;

/// Returns the length of the text in UTF-8 divided by the length of its zlib stream: high for repetitive text.
pub(crate) fn compression_ratio(text: &str) -> f32 {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let written = encoder
        .write_all(text.as_bytes())
        .and_then(|()| encoder.finish());
    match written {
        Ok(compressed) => text.len() as f32 / compressed.len() as f32,
        // Writing to memory does not fail.
        Err(_) => 0.0,
    }
}

/// Returns whether the window has no speech: the model says so, and the text is unlikely.
pub(crate) fn is_silence(attempt: &Attempt, options: &Options) -> bool {
    options
        .no_speech_threshold
        .is_some_and(|limit| attempt.no_speech_prob > limit)
        && options
            .logprob_threshold
            .is_none_or(|limit| attempt.avg_logprob <= limit)
}

/// Returns whether the text is repetitive.
pub(crate) fn is_repetitive(attempt: &Attempt, options: &Options) -> bool {
    options
        .compression_ratio_threshold
        .is_some_and(|limit| attempt.compression_ratio > limit)
}

/// Returns whether to try again at a higher temperature.
pub(crate) fn is_failed(attempt: &Attempt, options: &Options) -> bool {
    let unlikely = options
        .logprob_threshold
        .is_some_and(|limit| attempt.avg_logprob < limit);
    (unlikely || is_repetitive(attempt, options)) && !is_silence(attempt, options)
}

/// Returns the better of two failed attempts: a non-repetitive one, else the likelier one.
pub(crate) fn better(one: Attempt, other: Attempt, options: &Options) -> Attempt {
    let rank = |attempt: &Attempt| (!is_repetitive(attempt, options), attempt.avg_logprob);
    if rank(&other) > rank(&one) {
        other
    } else {
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(text: &str, avg_logprob: f32, no_speech_prob: f32) -> Attempt {
        Attempt {
            tokens: Vec::new(),
            avg_logprob,
            no_speech_prob,
            compression_ratio: compression_ratio(text),
            temperature: 0.0,
        }
    }

    #[test]
    fn the_compression_ratio_matches_zlib() {
        // Python: t = 'the cat sat on the mat. ' * 20; len(t) / len(zlib.compress(t.encode())) is 480 / 34. The
        // implementation used here differs from zlib by a few bytes.
        let ratio = compression_ratio(&"the cat sat on the mat. ".repeat(20));
        assert!((ratio - 480.0 / 34.0).abs() < 2.0, "{ratio}");
        assert!(compression_ratio("The quick brown fox jumps over the lazy dog.") < 1.0);
    }

    #[test]
    fn a_repetitive_or_unlikely_text_fails() {
        let options = Options::default();
        assert!(!is_failed(&attempt("Good morning.", -0.3, 0.0), &options));
        assert!(is_failed(&attempt("Good morning.", -1.3, 0.0), &options));
        assert!(is_failed(&attempt(&"no ".repeat(50), -0.1, 0.0), &options));
    }

    #[test]
    fn an_unlikely_text_of_a_window_without_speech_is_silence_and_not_tried_again() {
        let options = Options::default();
        let silent = attempt("Thank you.", -1.3, 0.9);
        assert!(is_silence(&silent, &options));
        assert!(!is_failed(&silent, &options));
        assert!(!is_silence(&attempt("Thank you.", -0.3, 0.9), &options));
    }

    #[test]
    fn of_failed_attempts_a_non_repetitive_one_is_kept() {
        let options = Options::default();
        let kept = better(
            attempt(&"no ".repeat(50), -0.1, 0.0),
            attempt("Good morning.", -2.0, 0.0),
            &options,
        );
        assert_eq!(kept.avg_logprob, -2.0);
    }

    #[test]
    fn without_thresholds_nothing_is_checked() {
        let options = Options {
            compression_ratio_threshold: None,
            logprob_threshold: None,
            no_speech_threshold: None,
            ..Options::default()
        };
        assert!(!is_failed(&attempt(&"no ".repeat(50), -9.0, 0.0), &options));
        assert!(!is_silence(&attempt("", -9.0, 1.0), &options));
    }
}
