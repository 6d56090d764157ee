//! The bytes of a file, kept in the chunks they came in, and readable as one.
//!
//! A single growing buffer would be copied each time it doubles, and would for a moment take three times the file's
//! size; a list of chunks never moves a byte.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use symphonia::core::io::MediaSource;

/// Chunks below this size, in bytes, are gathered into blocks of it: a file sent in very small pieces must not
/// cost more for the list than for the bytes.
const BLOCK: usize = 64 * 1024;

/// The bytes of a file: appended at the end, read through a [`Reader`].
#[derive(Debug, Default)]
pub struct Bytes {
    /// Each chunk with the offset of its first byte; none is empty.
    chunks: Vec<(u64, Vec<u8>)>,
    len: u64,
}

impl Bytes {
    /// No bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Add bytes at the end. Chunks may be of any size.
    pub fn append(&mut self, chunk: Vec<u8>) {
        if chunk.is_empty() {
            return;
        }
        let start = self.len;
        self.len += chunk.len() as u64;
        if chunk.len() >= BLOCK {
            self.chunks.push((start, chunk));
            return;
        }
        match self.chunks.last_mut() {
            Some((_, last)) if last.capacity() - last.len() >= chunk.len() => {
                last.extend_from_slice(&chunk);
            }
            _ => {
                let mut block = Vec::with_capacity(BLOCK);
                block.extend_from_slice(&chunk);
                self.chunks.push((start, block));
            }
        }
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A view of the bytes of a file, from its start. Several can share one copy.
#[derive(Debug)]
pub(crate) struct Reader {
    bytes: Arc<Bytes>,
    position: u64,
    seekable: bool,
}

impl Reader {
    /// As a file: its length is known, and readers may seek in it.
    pub(crate) fn whole(bytes: Arc<Bytes>) -> Self {
        Self {
            bytes,
            position: 0,
            seekable: true,
        }
    }

    /// As a stream: readers are told neither its length nor that they may seek.
    pub(crate) fn stream(bytes: Arc<Bytes>) -> Self {
        Self {
            bytes,
            position: 0,
            seekable: false,
        }
    }
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Bytes { chunks, len } = self.bytes.as_ref();
        let mut read = 0;
        // The last chunk that starts at or before the position.
        let mut index = chunks
            .partition_point(|(start, _)| *start <= self.position)
            .saturating_sub(1);
        while read < out.len() && self.position < *len {
            let (start, chunk) = &chunks[index];
            // Within the chunk, and so within usize: the position lies before the next chunk's start.
            let rest = &chunk[(self.position - start) as usize..];
            let count = rest.len().min(out.len() - read);
            out[read..read + count].copy_from_slice(&rest[..count]);
            read += count;
            self.position += count as u64;
            index += 1;
        }
        Ok(read)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.bytes.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "seek before the first byte")
        })?;
        Ok(self.position)
    }
}

impl MediaSource for Reader {
    fn is_seekable(&self) -> bool {
        self.seekable
    }

    fn byte_len(&self) -> Option<u64> {
        self.seekable.then_some(self.bytes.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(chunk_sizes: &[usize]) -> (Reader, Vec<u8>) {
        let mut bytes = Bytes::new();
        let mut whole = Vec::new();
        for (i, &size) in chunk_sizes.iter().enumerate() {
            let chunk: Vec<u8> = (0..size).map(|j| (i * 31 + j) as u8).collect();
            whole.extend_from_slice(&chunk);
            bytes.append(chunk);
        }
        (Reader::whole(Arc::new(bytes)), whole)
    }

    #[test]
    fn reads_across_chunks_of_any_size() {
        let (mut reader, whole) = sample(&[1, 0, 70_000, 3, 65_536, 40_000, 40_000]);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == whole);
    }

    #[test]
    fn small_chunks_share_a_block() {
        let (reader, _) = sample(&[10; 1000]);
        assert_eq!(reader.bytes.chunks.len(), 1);
    }

    #[test]
    fn seeks_from_start_end_and_position() {
        let (mut reader, whole) = sample(&[100_000, 5, 100_000]);
        let mut byte = [0];
        for (to, expected) in [
            (SeekFrom::Start(100_002), 100_002),
            (SeekFrom::Current(-3), 100_000),
            (SeekFrom::End(-1), whole.len() - 1),
        ] {
            reader.seek(to).unwrap();
            assert_eq!(reader.read(&mut byte).unwrap(), 1);
            assert_eq!(byte[0], whole[expected]);
        }
    }

    #[test]
    fn reading_behind_the_end_is_the_end() {
        let (mut reader, _) = sample(&[10]);
        reader.seek(SeekFrom::Start(u64::MAX)).unwrap();
        assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
        assert!(reader.seek(SeekFrom::End(-11)).is_err());
    }
}
