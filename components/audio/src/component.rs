//! The WIT interface `features` on top of [`Frames`]: only type conversions, and the spans of decoding.

use std::cell::RefCell;

use crate::{Bytes, Error, Format, Frames, Hint};

mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({ world: "audio", path: "../../wit", generate_all });
}

use bindings::exports::speech::pipeline::features as wit;
use bindings::speech::pipeline::tracing::Span;

struct Component;

impl wit::Guest for Component {
    type Recording = Recording;
    type Frames = OpenFrames;
}

struct Recording {
    hint: Hint,
    bytes: RefCell<Bytes>,
}

impl wit::GuestRecording for Recording {
    fn new(hint: wit::Hint) -> Self {
        let hint = Hint {
            media_type: hint.media_type,
            file_name: hint.file_name,
        };
        Self {
            hint,
            bytes: RefCell::default(),
        }
    }

    fn append(&self, bytes: Vec<u8>) {
        self.bytes.borrow_mut().append(bytes);
    }

    fn open(recording: wit::Recording, n_mels: u32) -> Result<wit::Frames, wit::Error> {
        let Self { hint, bytes } = recording.into_inner();
        let spans = Spans {
            decode: Span::new("decode"),
            log_mel: Span::new("log-mel"),
        };
        let frames = within(&spans.decode, || {
            Frames::open(bytes.into_inner(), &hint, n_mels)
        })?;
        Ok(wit::Frames::new(OpenFrames {
            frames: RefCell::new(frames),
            spans: RefCell::new(Some(spans)),
        }))
    }
}

struct OpenFrames {
    frames: RefCell<Frames>,
    /// `None` after the last block and after an error.
    spans: RefCell<Option<Spans>>,
}

/// The spans of one recording.
struct Spans {
    decode: Span,
    log_mel: Span,
}

/// Calls `work` within a span.
fn within<T>(span: &Span, work: impl FnOnce() -> T) -> T {
    span.enter();
    let done = work();
    span.exit();
    done
}

impl wit::GuestFrames for OpenFrames {
    fn format(&self) -> wit::Format {
        let Format {
            container,
            codec,
            sample_rate,
            channels,
            duration,
        } = *self.frames.borrow().format();
        wit::Format {
            container: container.to_owned(),
            codec: codec.to_owned(),
            sample_rate,
            channels,
            duration,
        }
    }

    fn read(&self) -> Result<Option<Vec<f32>>, wit::Error> {
        let mut frames = self.frames.borrow_mut();
        let mut open = self.spans.borrow_mut();
        let Some(spans) = &*open else {
            return Ok(frames.read()?);
        };
        let decoded = within(&spans.decode, || frames.decode());
        let block = decoded.map(|()| within(&spans.log_mel, || frames.compute()));
        if !matches!(block, Ok(Some(_))) {
            *open = None;
        }
        Ok(block?)
    }

    fn duration(&self) -> f64 {
        self.frames.borrow().duration()
    }

    fn skipped_packets(&self) -> u32 {
        self.frames.borrow().skipped_packets()
    }
}

impl From<Error> for wit::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::NotAudio(text) => Self::NotAudio(text),
            Error::UnsupportedCodec(text) => Self::UnsupportedCodec(text),
            Error::Corrupt(text) => Self::Corrupt(text),
            Error::Empty(text) => Self::Empty(text),
            Error::InvalidOption(text) => Self::InvalidOption(text),
        }
    }
}

bindings::export!(Component with_types_in bindings);
