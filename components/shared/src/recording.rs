//! Reading a recording.

use bytes::Bytes;

use crate::bindings::speech::pipeline::features::{Hint, Recording};
use crate::failure::Failure;
use crate::form::{self, Broken, Kind, Options, Sink, Source};

/// Reads a recording, and the options of its form.
///
/// # Errors
/// [`Failure`] if there is no recording, or the source breaks off.
pub fn read<O: Options>(source: impl Source + Send, kind: Kind) -> Result<(Recording, O), Failure> {
    let mut upload = Upload(None);
    let options = form::read(source, kind, &mut upload)?;
    // `read` starts a recording or fails.
    let recording = upload
        .0
        .ok_or_else(|| Failure::bad_request("the request has no recording: send one"))?;
    Ok((recording, options))
}

/// The recording, once it has started.
struct Upload(Option<Recording>);

impl Sink for Upload {
    fn begin(&mut self, media_type: Option<String>, file_name: Option<String>) {
        self.0 = Some(Recording::new(&Hint {
            media_type,
            file_name,
        }));
    }

    fn append(&mut self, bytes: &[u8]) {
        if let Some(recording) = &self.0 {
            recording.append(bytes);
        }
    }
}

/// A body that has arrived as a whole.
pub struct Whole(Option<Bytes>);

impl Whole {
    /// A source of these bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Some(bytes.into()))
    }
}

impl Source for Whole {
    fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        Ok(self.0.take())
    }
}
