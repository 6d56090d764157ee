//! The audio in a container as one stream: consecutive pieces of the file.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use symphonia::core::io::MediaSource;

use crate::Bytes;

/// Iterates over the pieces without storing them.
pub(crate) trait Pieces: Send + Sync {
    /// The next piece; `None` after the last.
    fn next(&mut self) -> Option<Piece>;
}

/// Consecutive bytes of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A range of the file.
    File(Range<u64>),
    /// A header that the container omits.
    Inserted([u8; 7]),
}

/// A single range of the file.
pub(crate) struct Single(Option<Range<u64>>);

impl Single {
    pub(crate) fn new(range: Range<u64>) -> Self {
        Self(Some(range))
    }
}

impl Pieces for Single {
    fn next(&mut self) -> Option<Piece> {
        self.0.take().map(Piece::File)
    }
}

/// Reads the pieces as one forward-only stream.
pub(crate) struct Payload {
    bytes: Arc<Bytes>,
    pieces: Box<dyn Pieces>,
    /// The current piece, and the bytes of it already read.
    current: Option<(Piece, u64)>,
    /// Bytes that were peeked at but not yet read.
    peeked: Vec<u8>,
    /// How many more bytes of the file may be read. Pieces of a valid file do not overlap, so their sum does not exceed the
    /// file; a forged table could list the whole file thousands of times.
    left: u64,
}

impl Payload {
    pub(crate) fn new(bytes: Arc<Bytes>, pieces: Box<dyn Pieces>) -> Self {
        Self {
            left: bytes.len(),
            bytes,
            pieces,
            current: None,
            peeked: Vec::new(),
        }
    }

    /// Peeks at the first four bytes, if there are that many.
    pub(crate) fn peek(&mut self) -> io::Result<Option<[u8; 4]>> {
        let mut first = Vec::new();
        self.by_ref().take(4).read_to_end(&mut first)?;
        let found = first.first_chunk().copied();
        first.append(&mut self.peeked);
        self.peeked = first;
        Ok(found)
    }
}

impl Read for Payload {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if !self.peeked.is_empty() {
            let count = self.peeked.len().min(out.len());
            out[..count].copy_from_slice(&self.peeked[..count]);
            self.peeked.drain(..count);
            return Ok(count);
        }
        loop {
            if self.current.is_none() {
                self.current = self.pieces.next().map(|piece| (piece, 0));
            }
            let Some((piece, read)) = &mut self.current else {
                return Ok(0);
            };
            let count = match piece {
                Piece::File(range) => {
                    let start = range.start.saturating_add(*read);
                    let left = range.end.saturating_sub(start).min(self.left);
                    let most = usize::try_from(left).map_or(out.len(), |left| left.min(out.len()));
                    let count = self.bytes.read_at(start, &mut out[..most]);
                    self.left -= count as u64;
                    count
                }
                Piece::Inserted(made) => {
                    // At most the length of the array.
                    let rest = &made[(*read as usize).min(made.len())..];
                    let count = rest.len().min(out.len());
                    out[..count].copy_from_slice(&rest[..count]);
                    count
                }
            };
            if count > 0 {
                *read += count as u64;
                return Ok(count);
            }
            if self.left == 0 {
                return Ok(0);
            }
            self.current = None;
        }
    }
}

impl Seek for Payload {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a payload is read forward only",
        ))
    }
}

impl MediaSource for Payload {
    fn is_seekable(&self) -> bool {
        false
    }

    fn byte_len(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct List(Vec<Piece>);

    impl Pieces for List {
        fn next(&mut self) -> Option<Piece> {
            (!self.0.is_empty()).then(|| self.0.remove(0))
        }
    }

    #[test]
    fn no_more_bytes_are_read_than_the_file_has() {
        struct Endless;
        impl Pieces for Endless {
            fn next(&mut self) -> Option<Piece> {
                Some(Piece::File(0..100))
            }
        }
        let mut bytes = Bytes::new();
        bytes.append(vec![7; 100]);
        let mut read = Vec::new();
        Payload::new(Arc::new(bytes), Box::new(Endless))
            .read_to_end(&mut read)
            .unwrap();
        assert_eq!(read, [7; 100]);
    }

    #[test]
    fn pieces_are_read_as_one_stream_and_truncated_at_the_end_of_the_file() {
        let mut bytes = Bytes::new();
        bytes.append((0..100).collect());
        let pieces = List(vec![
            Piece::File(10..12),
            Piece::File(5..5),
            Piece::Inserted(*b"ADTS..."),
            Piece::File(98..200),
            Piece::File(300..400),
            Piece::File(0..1),
        ]);
        let mut read = Vec::new();
        let mut payload = Payload::new(Arc::new(bytes), Box::new(pieces));
        assert_eq!(payload.peek().unwrap(), Some(*b"\x0a\x0bAD"));
        assert_eq!(payload.peek().unwrap(), Some(*b"\x0a\x0bAD"));
        payload.read_to_end(&mut read).unwrap();
        assert_eq!(read, *b"\x0a\x0bADTS...\x62\x63\0");
    }
}
