//! Checks of the Vorbis setup header (Vorbis I specification, 4.2.4) for damage at which symphonia 0.6 panics: codes longer than
//! 32 bits, a codebook in use without codes, a number of lookup values that it rounds incorrectly, an index past the books of a floor,
//! and two floor points at 0.

use crate::Error;
use crate::error::{damaged, unsupported};

/// First bytes of the header.
pub(crate) const SETUP: [u8; 7] = *b"\x05vorbis";

/// Size of the identification header, and offset of its number of channels.
const IDENTIFICATION: usize = 30;
const CHANNELS_AT: usize = 11;

/// Limits of symphonia for a codebook.
const MAX_DIMENSIONS: u32 = 32;
const MAX_CODES: u32 = 128 * 1024;

/// Checks the identification header and the setup header that follows.
pub(crate) fn check(headers: &[u8]) -> Result<(), Error> {
    match is_supported(headers) {
        Some(true) => Ok(()),
        Some(false) => Err(unsupported("this channel coupling of Vorbis")),
        None => Err(broken()),
    }
}

/// Checks the codebooks of a setup header.
pub(crate) fn check_codebooks(header: &[u8]) -> Result<(), Error> {
    match Bits::behind(&SETUP, header).and_then(|mut bits| codebooks(&mut bits)) {
        Some(_) => Ok(()),
        None => Err(broken()),
    }
}

fn broken() -> Error {
    damaged("the Vorbis setup header is invalid")
}

/// Reads bits, lowest bit of each byte first (2.1.4).
struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits read.
    position: u64,
}

impl<'a> Bits<'a> {
    fn behind(mark: &[u8], bytes: &'a [u8]) -> Option<Self> {
        Some(Self {
            bytes: bytes.strip_prefix(mark)?,
            position: 0,
        })
    }

    /// Reads a number of `count` bits.
    fn read(&mut self, count: u32) -> Option<u32> {
        let mut number = 0;
        for bit in 0..count {
            let byte = self.bytes.get(usize::try_from(self.position / 8).ok()?)?;
            number |= u32::from(byte >> (self.position % 8) & 1) << bit;
            self.position += 1;
        }
        Some(number)
    }

    fn skip(&mut self, count: u32) {
        self.position += u64::from(count);
    }
}

/// How many bits a number has.
fn width(number: u32) -> u32 {
    u32::BITS - number.leading_zeros()
}

/// Whether symphonia decodes what the headers describe; none if they are damaged.
fn is_supported(headers: &[u8]) -> Option<bool> {
    let channels = u32::from(*headers.get(CHANNELS_AT)?);
    let bits = &mut Bits::behind(&SETUP, headers.get(IDENTIFICATION..)?)?;
    let codebooks = codebooks(bits)?;
    let is_book = |number: u32| codebooks.get(number as usize) == Some(&true);
    // Times, which are not used.
    for _ in 0..=bits.read(6)? {
        bits.skip(16);
    }
    for _ in 0..=bits.read(6)? {
        floor(bits, is_book)?;
    }
    let mut residues = Vec::new();
    for _ in 0..=bits.read(6)? {
        residues.push(residue(bits, is_book)?);
    }
    for _ in 0..=bits.read(6)? {
        if !mapping(bits, channels, &residues)? {
            return Some(false);
        }
    }
    Some(true)
}

/// For each codebook, whether it has codes (3.2.1).
fn codebooks(bits: &mut Bits) -> Option<Vec<bool>> {
    (0..=bits.read(8)?).map(|_| codebook(bits)).collect()
}

fn codebook(bits: &mut Bits) -> Option<bool> {
    let mark = bits.read(24)?;
    let dimensions = bits.read(16)?;
    let codes = bits.read(24)?;
    if mark != 0x56_4342 || !(1..=MAX_DIMENSIONS).contains(&dimensions) || codes > MAX_CODES {
        return None;
    }
    let mut used = 0;
    if bits.read(1)? == 1 {
        let mut length = bits.read(5)? + 1;
        while used < codes {
            let count = bits.read(width(codes - used))?;
            if count > 0 && length > 32 {
                return None;
            }
            used += count;
            length += 1;
        }
    } else {
        let is_sparse = bits.read(1)? == 1;
        for _ in 0..codes {
            if !is_sparse || bits.read(1)? == 1 {
                bits.skip(5);
                used += 1;
            }
        }
    }
    let values = match bits.read(4)? {
        0 => return Some(used > 0),
        1 => lookup_values(codes, dimensions)?,
        2 => codes * dimensions,
        _ => return None,
    };
    bits.skip(64);
    let width = bits.read(4)? + 1;
    bits.skip(1 + values * width);
    Some(used > 0)
}

/// The largest number whose power is at most `codes` (9.2.3), in the way symphonia computes it; none if that goes wrong.
fn lookup_values(codes: u32, dimensions: u32) -> Option<u32> {
    let values = (codes as f32).powf(1.0 / dimensions as f32).floor() as u32;
    let fits = |number: u32| number.wrapping_pow(dimensions) <= codes;
    (fits(values) && !fits(values + 1)).then_some(values)
}

fn floor(bits: &mut Bits, is_book: impl Fn(u32) -> bool) -> Option<()> {
    /// Of 16 books the index has five bits.
    const MAX_BOOKS: u32 = 15;
    let kind = bits.read(16)?;
    if kind == 0 {
        bits.skip(8 + 16 + 16 + 6 + 8);
        let books = bits.read(4)? + 1;
        for _ in 0..books {
            is_book(bits.read(8)?).then_some(())?;
        }
        return (books <= MAX_BOOKS).then_some(());
    }
    let partitions: Vec<u32> = (0..bits.read(5)?)
        .map(|_| bits.read(4))
        .collect::<Option<_>>()?;
    let mut dimensions = Vec::new();
    for _ in 0..partitions.iter().max().map_or(0, |most| most + 1) {
        dimensions.push(bits.read(3)? + 1);
        let subclasses = bits.read(2)?;
        if subclasses > 0 {
            is_book(bits.read(8)?).then_some(())?;
        }
        for _ in 0..1 << subclasses {
            // 0 stands for none.
            let book = bits.read(8)?;
            (book == 0 || is_book(book - 1)).then_some(())?;
        }
    }
    bits.skip(2);
    let range = bits.read(4)?;
    for class in partitions {
        for _ in 0..dimensions[class as usize] {
            // The first point is at 0, and all differ.
            (bits.read(range)? != 0).then_some(())?;
        }
    }
    (kind == 1).then_some(())
}

/// The type of a residue.
fn residue(bits: &mut Bits, is_book: impl Fn(u32) -> bool) -> Option<u32> {
    let kind = bits.read(16)?;
    bits.skip(24 + 24 + 24);
    let classes = bits.read(6)? + 1;
    is_book(bits.read(8)?).then_some(())?;
    let mut books = 0;
    for _ in 0..classes {
        books += bits.read(3)?.count_ones();
        if bits.read(1)? == 1 {
            books += bits.read(5)?.count_ones();
        }
    }
    for _ in 0..books {
        is_book(bits.read(8)?).then_some(())?;
    }
    Some(kind)
}

/// Whether symphonia reads the mapping: it takes the second channel of two in a residue of type 2 to be counted from the first.
fn mapping(bits: &mut Bits, channels: u32, residues: &[u32]) -> Option<bool> {
    bits.skip(16);
    let submaps = match bits.read(1)? {
        1 => bits.read(4)? + 1,
        _ => 1,
    };
    if bits.read(1)? == 1 {
        let steps = bits.read(8)? + 1;
        bits.skip(steps * 2 * width(channels.checked_sub(1)?));
    }
    bits.skip(2);
    let mut submap_of = vec![0; channels as usize];
    if submaps > 1 {
        for submap in &mut submap_of {
            *submap = bits.read(4)?;
        }
    }
    for submap in 0..submaps {
        bits.skip(8 + 8);
        let kind = residues.get(bits.read(8)? as usize)?;
        let count = submap_of.iter().filter(|of| **of == submap).count();
        if *kind == 2 && count == 2 && submap_of[0] != submap {
            return Some(false);
        }
    }
    Some(true)
}
