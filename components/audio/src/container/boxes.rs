//! The boxes (atoms) of MP4 and QuickTime: length, name, content (ISO/IEC 14496-12, 4.2).

use std::ops::Range;

use crate::Bytes;

/// A box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Atom {
    pub name: [u8; 4],
    /// Offset of its name.
    pub named_at: u64,
    /// Range of its content.
    pub content: Range<u64>,
}

/// The boxes in a range, up to the first with an invalid length.
pub(crate) fn atoms(bytes: &Bytes, range: Range<u64>) -> impl Iterator<Item = Atom> + '_ {
    let mut offset = range.start;
    std::iter::from_fn(move || {
        let [a, b, c, d, name @ ..] = bytes.array_at::<8>(offset)?;
        if offset.checked_add(8)? > range.end {
            return None;
        }
        let (header, len) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (8, range.end - offset),
            1 => (16, u64::from_be_bytes(bytes.array_at(offset + 8)?)),
            len => (8, u64::from(len)),
        };
        if len < header {
            return None;
        }
        let end = offset.saturating_add(len).min(range.end);
        let atom = Atom {
            name,
            named_at: offset + 4,
            content: (offset + header).min(end)..end,
        };
        offset = end;
        Some(atom)
    })
}

/// The content of the box at a path: the first of each name within the previous one.
pub(crate) fn inside(bytes: &Bytes, range: Range<u64>, path: &[&[u8; 4]]) -> Option<Range<u64>> {
    path.iter().try_fold(range, |range, name| {
        atoms(bytes, range)
            .find(|atom| atom.name == **name)
            .map(|atom| atom.content)
    })
}
