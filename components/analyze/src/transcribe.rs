//! From a recording to its segments: whatever the entrance was, this is the way.

use crate::bindings::speech::pipeline::frontend::{Frames, Recording};
use crate::bindings::speech::pipeline::inference::{self, Segment, Transcription};
use crate::failure::{Code, Failure};
use crate::options::Options;

/// What is known of a call, also when it fails halfway.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// Seconds of audio that were decoded.
    pub audio_length: f64,
    /// Id of the model.
    pub model: Option<String>,
    /// Language of the speech: the one asked for, if the model knows it, or the one detected.
    pub language: Option<String>,
}

/// Transcribe a recording that is complete. What is found out on the way goes into `known`.
///
/// Frames are pushed block by block, so that the host transcribes the beginning while the rest is still being decoded.
pub fn transcribe(
    recording: Recording,
    options: Options,
    known: &mut Known,
) -> Result<Vec<Segment>, Failure> {
    let Some(model) = inference::models().into_iter().next() else {
        return Err(Failure::new(
            Code::Internal,
            "this application was granted no model: name one in `ai_models`",
        ));
    };
    let frames = Recording::open(recording, model.n_mels)?;
    known.model = Some(model.id);
    let transcription = Transcription::start(&options.apply_to(inference::default_options()))?;
    let result = run(&frames, &transcription);
    known.audio_length = frames.duration();
    let info = transcription.info();
    known.model = Some(info.model);
    known.language = info.language;
    result
}

fn run(frames: &Frames, transcription: &Transcription) -> Result<Vec<Segment>, Failure> {
    while let Some(block) = frames.read()? {
        transcription.push(&block)?;
    }
    transcription.finish()?;
    let mut segments = Vec::new();
    while let Some(segment) = transcription.next()? {
        segments.push(segment);
    }
    Ok(segments)
}
