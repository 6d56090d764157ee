//! Transcribes a recording, independent of the trigger.

use crate::bindings::speech::pipeline::features::{Frames, Recording};
use crate::bindings::speech::pipeline::inference::{self, Segment, Transcription};
use crate::failure::{Code, Failure};

/// Environment variable with the maximum length of a recording, in seconds.
const MAX_SECONDS: &str = "MAX_AUDIO_SECONDS";

/// Default: four hours. A file of a few kilobytes can contain hours of silence.
const DEFAULT_MAX_SECONDS: f64 = 4.0 * 3600.0;

/// Data recorded about a call, even if it fails halfway.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallInfo {
    /// Seconds of audio that were decoded.
    pub audio_length: f64,
    /// Id of the model.
    pub model: Option<String>,
    /// Language of the speech: the one requested, if the model supports it, or the one detected.
    pub language: Option<String>,
}

/// Transcribes a complete recording. `options` modifies the model's default options. `info` is filled in along the way.
///
/// Frames are pushed block by block, so that the host transcribes the beginning while the rest is still being decoded.
pub fn transcribe(
    recording: Recording,
    options: impl FnOnce(inference::Options) -> inference::Options,
    info: &mut CallInfo,
) -> Result<Vec<Segment>, Failure> {
    let most = max_seconds(std::env::var(MAX_SECONDS).ok().as_deref())?;
    let Some(model) = inference::models().into_iter().next() else {
        return Err(Failure::new(
            Code::Internal,
            "no model is granted to this component: name one in `ai_models`",
        ));
    };
    let frames = Recording::open(recording, model.n_mels)?;
    info.model = Some(model.id);
    let transcription = Transcription::start(&options(inference::default_options()))?;
    let result = run(&frames, &transcription, most);
    info.audio_length = frames.duration();
    let skipped = frames.skipped_packets();
    if skipped > 0 {
        eprintln!("{skipped} packets of the recording could not be decoded and were skipped");
    }
    let found = transcription.info();
    info.model = Some(found.model);
    info.language = found.language;
    result
}

fn max_seconds(setting: Option<&str>) -> Result<f64, Failure> {
    let Some(text) = setting else {
        return Ok(DEFAULT_MAX_SECONDS);
    };
    match text.parse() {
        Ok(seconds) if seconds > 0.0 => Ok(seconds),
        _ => Err(Failure::new(
            Code::Internal,
            format!(
                "{MAX_SECONDS} is {text:?}, which is not a positive number of seconds: correct the component's environment"
            ),
        )),
    }
}

fn run(frames: &Frames, transcription: &Transcription, most: f64) -> Result<Vec<Segment>, Failure> {
    while let Some(block) = frames.read()? {
        if frames.duration() > most {
            return Err(Failure::new(
                Code::AudioTooLong,
                format!(
                    "the recording is longer than the limit of {most} seconds: split it, or ask the operator to raise {MAX_SECONDS}"
                ),
            ));
        }
        transcription.push(&block)?;
    }
    transcription.finish()?;
    let mut segments = Vec::new();
    while let Some(segment) = transcription.next()? {
        segments.push(segment);
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT_MAX_SECONDS, max_seconds};

    #[test]
    fn the_maximum_length_of_a_recording_is_configurable() {
        assert_eq!(max_seconds(None), Ok(DEFAULT_MAX_SECONDS));
        assert_eq!(max_seconds(Some("90.5")), Ok(90.5));
        for text in ["", "0", "-1", "4h", "NaN"] {
            let failure = max_seconds(Some(text)).unwrap_err();
            assert!(failure.message.contains("MAX_AUDIO_SECONDS"), "{text}");
        }
    }
}
