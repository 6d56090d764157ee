//! The bytes of a file, stored in the chunks they arrived in, and readable as a whole.
//!
//! A single growing buffer would be copied each time it doubles, and would temporarily take three times the file's
//! size; a list of chunks is never copied.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use symphonia::core::io::MediaSource;

/// Chunks smaller than this, in bytes, are collected into blocks of this size, so that a file sent in tiny chunks does not
/// need more memory for the list than for the bytes.
const BLOCK: usize = 64 * 1024;

/// The bytes of a file: appended at the end, read through a [`Reader`].
#[derive(Debug, Default)]
pub struct Bytes {
    /// Each chunk with the offset of its first byte; none is empty.
    chunks: Vec<(u64, Vec<u8>)>,
    len: u64,
}

impl Bytes {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes. Chunks may have any size.
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

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Copies the bytes from `offset` to `out`. Returns how many there were.
    pub(crate) fn read_at(&self, mut offset: u64, out: &mut [u8]) -> usize {
        let mut read = 0;
        let mut index = self.chunk_at(offset);
        while read < out.len() && offset < self.len {
            let (start, chunk) = &self.chunks[index];
            // Fits into usize: the offset is within the chunk.
            let rest = &chunk[(offset - start) as usize..];
            let count = rest.len().min(out.len() - read);
            out[read..read + count].copy_from_slice(&rest[..count]);
            read += count;
            offset += count as u64;
            index += 1;
        }
        read
    }

    /// The `N` bytes from `offset`, if there are that many.
    pub(crate) fn array_at<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let mut out = [0; N];
        (self.read_at(offset, &mut out) == N).then_some(out)
    }

    /// The bytes of a range, truncated at the end.
    pub(crate) fn slice(&self, range: Range<u64>) -> Vec<u8> {
        let end = range.end.min(self.len);
        let len = end.saturating_sub(range.start);
        // Fits into usize: the bytes are already in memory.
        let mut out = vec![0; len as usize];
        self.read_at(range.start, &mut out);
        out
    }

    /// Overwrites the bytes from `offset` with `content`, truncated at the end.
    pub(crate) fn overwrite(&mut self, offset: u64, content: &[u8]) {
        for (offset, byte) in (offset..self.len).zip(content) {
            let index = self.chunk_at(offset);
            let (start, chunk) = &mut self.chunks[index];
            chunk[(offset - *start) as usize] = *byte;
        }
    }

    /// Index of the last chunk that starts at or before the offset.
    fn chunk_at(&self, offset: u64) -> usize {
        self.chunks
            .partition_point(|(start, _)| *start <= offset)
            .saturating_sub(1)
    }
}

/// A view of a range of a file's bytes as a separate file. Several can share the bytes.
#[derive(Debug)]
pub(crate) struct Reader {
    bytes: Arc<Bytes>,
    range: Range<u64>,
    /// Relative to the start of the range.
    position: u64,
    seekable: bool,
}

impl Reader {
    /// A file: its length is known, and readers may seek.
    pub(crate) fn seekable(bytes: Arc<Bytes>, range: Range<u64>) -> Self {
        Self {
            bytes,
            range,
            position: 0,
            seekable: true,
        }
    }

    /// A stream: its length is unknown, and readers cannot seek.
    pub(crate) fn stream(bytes: Arc<Bytes>, range: Range<u64>) -> Self {
        Self {
            seekable: false,
            ..Self::seekable(bytes, range)
        }
    }

    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.len().saturating_sub(self.position);
        let count = usize::try_from(left).map_or(out.len(), |left| left.min(out.len()));
        let offset = self.range.start.saturating_add(self.position);
        let read = self.bytes.read_at(offset, &mut out[..count]);
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.len().checked_add_signed(offset),
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
        self.seekable.then_some(self.len())
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
        let range = 0..bytes.len();
        (Reader::seekable(Arc::new(bytes), range), whole)
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
    fn a_range_is_read_as_a_separate_file() {
        let (reader, whole) = sample(&[100_000, 5, 100_000]);
        let mut part = Reader::seekable(reader.bytes, 99_990..100_020);
        let mut read = Vec::new();
        part.read_to_end(&mut read).unwrap();
        assert!(read == whole[99_990..100_020]);
        assert_eq!(part.seek(SeekFrom::End(-1)).unwrap(), 29);
        assert_eq!(part.byte_len(), Some(30));
    }

    #[test]
    fn overwriting_reaches_across_chunks() {
        let mut bytes = Bytes::new();
        bytes.append(vec![0; 70_000]);
        bytes.append(vec![0; 2]);
        bytes.overwrite(69_999, &[1, 2, 3, 4]);
        let mut read = [9; 4];
        assert_eq!(bytes.read_at(69_998, &mut read), 4);
        assert_eq!(read, [0, 1, 2, 3]);
    }

    #[test]
    fn reading_past_the_end_returns_nothing() {
        let (mut reader, _) = sample(&[10]);
        reader.seek(SeekFrom::Start(u64::MAX)).unwrap();
        assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
        assert!(reader.seek(SeekFrom::End(-11)).is_err());
    }
}
