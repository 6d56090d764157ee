//! The WIT interface `features` on top of [`Frames`]: only type conversions.

use std::cell::RefCell;

use crate::{Bytes, Error, Format, Frames, Hint};

mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({ world: "audio", path: "../../wit", generate_all });
}

use bindings::exports::speech::pipeline::features as wit;

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
        let frames = Frames::open(bytes.into_inner(), &hint, n_mels)?;
        Ok(wit::Frames::new(OpenFrames(RefCell::new(frames))))
    }
}

struct OpenFrames(RefCell<Frames>);

impl wit::GuestFrames for OpenFrames {
    fn format(&self) -> wit::Format {
        let Format {
            container,
            codec,
            sample_rate,
            channels,
            duration,
        } = *self.0.borrow().format();
        wit::Format {
            container: container.to_owned(),
            codec: codec.to_owned(),
            sample_rate,
            channels,
            duration,
        }
    }

    fn read(&self) -> Result<Option<Vec<f32>>, wit::Error> {
        Ok(self.0.borrow_mut().read()?)
    }

    fn duration(&self) -> f64 {
        self.0.borrow().duration()
    }

    fn skipped_packets(&self) -> u32 {
        self.0.borrow().skipped_packets()
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
