//! The JSON response. Field names and types are part of the public API.

use serde::Serialize;
use shared::bindings::speech::pipeline::inference::{Segment, Timestamps};

#[derive(Serialize)]
struct Transcription<'a> {
    transcription: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    segments: Option<Vec<TimedSegment<'a>>>,
}

#[derive(Serialize)]
struct TimedSegment<'a> {
    start: f64,
    end: f64,
    text: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    words: Vec<TimedWord<'a>>,
}

#[derive(Serialize)]
struct TimedWord<'a> {
    start: f64,
    end: f64,
    text: &'a str,
    probability: f64,
}

/// Languages written without spaces between words or sentences: those that Whisper's reference implementation splits by
/// character (`split_to_word_tokens` in `tokenizer.py`).
const UNSPACED: [&str; 6] = ["zh", "ja", "th", "lo", "my", "yue"];

/// `{"transcription":"…"}`, with timestamps also `"segments":[{"start":0.0,"end":2.5,"text":"…"}]` in seconds; with
/// word timestamps, each segment also has `"words"`.
pub fn transcription(
    segments: &[Segment],
    timestamps: Timestamps,
    language: Option<&str>,
) -> String {
    let space = match language.is_some_and(|language| UNSPACED.contains(&language)) {
        true => "",
        false => " ",
    };
    let text = segments
        .iter()
        .map(|segment| segment.text.trim())
        .collect::<Vec<_>>()
        .join(space);
    let timed = (timestamps != Timestamps::None).then(|| segments.iter().map(timed).collect());
    json(&Transcription {
        transcription: text.trim().to_owned(),
        segments: timed,
    })
}

fn timed(segment: &Segment) -> TimedSegment<'_> {
    let words = segment.words.iter().map(|word| TimedWord {
        start: two_decimals(word.start),
        end: two_decimals(word.end),
        text: word.text.trim(),
        probability: two_decimals(f64::from(word.probability)),
    });
    TimedSegment {
        start: two_decimals(segment.start),
        end: two_decimals(segment.end),
        text: segment.text.trim(),
        words: words.collect(),
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and lists always have a JSON form")
}

fn two_decimals(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::bindings::speech::pipeline::inference::Word;

    fn segment(start: f64, end: f64, text: &str) -> Segment {
        Segment {
            start,
            end,
            text: text.to_owned(),
            avg_logprob: -0.1,
            no_speech_prob: 0.0,
            compression_ratio: 1.0,
            temperature: 0.0,
            words: Vec::new(),
        }
    }

    #[test]
    fn segments_are_joined_with_one_space() {
        let segments = [
            segment(0.0, 1.0, "Hello, "),
            segment(1.0, 2.0, "\"world\"."),
        ];
        let expected = r#"{"transcription":"Hello, \"world\"."}"#;
        assert_eq!(transcription(&segments, Timestamps::None, None), expected);
    }

    #[test]
    fn silence_is_the_empty_string() {
        assert_eq!(
            transcription(&[], Timestamps::None, None),
            r#"{"transcription":""}"#
        );
        assert_eq!(
            transcription(&[], Timestamps::Segment, None),
            r#"{"transcription":"","segments":[]}"#
        );
    }

    #[test]
    fn times_are_rounded_to_two_decimals() {
        let expected = r#"{"transcription":"Hi","segments":[{"start":0.0,"end":2.5,"text":"Hi"}]}"#;
        assert_eq!(
            transcription(&[segment(0.0, 2.499_999, "Hi")], Timestamps::Segment, None),
            expected
        );
    }

    #[test]
    fn words_are_listed_in_their_segment() {
        let mut hi = segment(0.0, 0.5, "Hi");
        hi.words.push(Word {
            start: 0.1,
            end: 0.42,
            text: " Hi".to_owned(),
            probability: 0.987,
        });
        let expected = r#""words":[{"start":0.1,"end":0.42,"text":"Hi","probability":0.99}]"#;
        assert!(transcription(&[hi], Timestamps::Word, None).contains(expected));
    }
}
