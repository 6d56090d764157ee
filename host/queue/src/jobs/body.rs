//! Reading a body from the object store.

use async_nats::jetstream::object_store::ObjectInfo;
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;

use super::error::Error;

/// The body of a job, or of a long response, in pieces.
///
/// It is read message by message: a consumer for each body would stay on the server for half a minute, and a stream can have a limited
/// number of them.
pub struct Body {
    bodies: Stream,
    /// The subject of all pieces.
    subject: String,
    /// Sequence number of the first message that may be the next piece.
    next: u64,
    /// Bytes that were not read yet.
    left: usize,
}

impl Body {
    pub(super) fn new(bodies: Stream, info: &ObjectInfo) -> Self {
        Self {
            bodies,
            subject: pieces_of(info),
            next: 1,
            left: info.size,
        }
    }

    /// Returns the next piece; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let piece = self
            .bodies
            .direct_get_next_for_subject(self.subject.as_str(), Some(self.next))
            .await
            .map_err(Error::unavailable)?;
        self.next = piece.sequence + 1;
        let Some(left) = self.left.checked_sub(piece.payload.len()) else {
            return Err(Error::unavailable(
                "a body is longer than it was when it was stored",
            ));
        };
        self.left = left;
        Ok(Some(piece.payload))
    }
}

/// Returns the subject of the pieces of an object.
pub(super) fn pieces_of(info: &ObjectInfo) -> String {
    format!("$O.{}.C.{}", info.bucket, info.nuid)
}
