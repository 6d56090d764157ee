//! CTranslate2's `model.bin`, which faster-whisper loads.
//!
//! Little endian: a header (version of the format, name and revision of the model's specification), variables (name, rank,
//! dimensions, type, number of bytes, data), and aliases (name, name of a variable). Strings are a length of two bytes, the text and
//! a zero byte, which the length includes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::view::{Element, Tensors, View, map};
use crate::LoadError;

/// The versions of the format whose variables have a type; CTranslate2 has written 6 since 2022.
const VERSIONS: std::ops::RangeInclusive<u32> = 4..=6;

const SPECIFICATION: &str = "WhisperSpec";

/// Reads the locations of the tensors in a `model.bin`.
///
/// # Errors
/// [`LoadError::Field`] if the file is truncated, of another kind of model, or of an unsupported version.
pub(super) fn open(path: &Path) -> Result<Tensors, LoadError> {
    let file = map(path)?;
    let reader = Reader {
        file: &file,
        at: 0,
        path,
    };
    let named = reader.read()?;
    Ok(Tensors {
        path: path.to_owned(),
        named,
    })
}

struct Reader<'a> {
    file: &'a Arc<Mmap>,
    at: usize,
    path: &'a Path,
}

impl Reader<'_> {
    fn read(mut self) -> Result<HashMap<String, View>, LoadError> {
        let version = self.u32("the header")?;
        if !VERSIONS.contains(&version) {
            return Err(self.error(
                "the header",
                format!(
                    "is of version {version}, expected {} to {}; is it a CTranslate2 model? Convert it again with ctranslate2's \
                     ct2-transformers-converter",
                    VERSIONS.start(),
                    VERSIONS.end()
                ),
            ));
        }
        let specification = self.string("the header")?;
        self.u32("the header")?; // the specification's revision, whose changes show in the variables
        if specification != SPECIFICATION {
            return Err(self.error(
                "the header",
                format!(
                    "says `{specification}`, expected {SPECIFICATION}: this is not a Whisper model"
                ),
            ));
        }
        let count = self.u32("the number of variables")?;
        let mut named = HashMap::new();
        for _ in 0..count {
            let name = self.string("a variable's name")?;
            let view = self.variable(&name)?;
            named.insert(name, view);
        }
        for _ in 0..self.u32("the number of aliases")? {
            let alias = self.string("an alias")?;
            let name = self.string(&alias)?;
            let Some(view) = named.get(&name).cloned() else {
                return Err(self.error(
                    &format!("alias `{alias}`"),
                    format!("refers to `{name}`, which is missing; download the file again"),
                ));
            };
            // The scales of quantised weights have no alias of their own.
            if let Some(scales) = named.get(&format!("{name}_scale")).cloned() {
                named.insert(format!("{alias}_scale"), scales);
            }
            named.insert(alias, view);
        }
        Ok(named)
    }

    fn variable(&mut self, name: &str) -> Result<View, LoadError> {
        let rank = self.bytes(1, name)?[0];
        let shape = (0..rank)
            .map(|_| Ok(self.u32(name)? as usize))
            .collect::<Result<Vec<_>, LoadError>>()?;
        let code = self.bytes(1, name)?[0];
        let element = match code {
            0 => Element::F32,
            1 => Element::I8,
            2 => Element::I16,
            3 => Element::I32,
            4 => Element::F16,
            5 => Element::Bf16,
            _ => {
                return Err(self.error(
                    &format!("tensor `{name}`"),
                    format!("has the unknown type {code}; download the file again"),
                ));
            }
        };
        let length = self.u32(name)? as usize;
        let begin = self.at;
        self.bytes(length, name)?;
        View::new(self.file, begin..self.at, element, shape.clone()).ok_or_else(|| {
            self.error(
                &format!("tensor `{name}`"),
                format!("has {length} bytes, which do not match its shape {shape:?}; download the file again"),
            )
        })
    }

    fn bytes(&mut self, count: usize, what: &str) -> Result<&[u8], LoadError> {
        let begin = self.at;
        let end = begin
            .checked_add(count)
            .filter(|&end| end <= self.file.len());
        let Some(end) = end else {
            return Err(self.error(
                "the file",
                format!(
                    "is truncated: it has {} bytes and ends in {what}; download it again",
                    self.file.len()
                ),
            ));
        };
        self.at = end;
        Ok(&self.file[begin..end])
    }

    fn u32(&mut self, what: &str) -> Result<u32, LoadError> {
        let bytes = self.bytes(4, what)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn string(&mut self, what: &str) -> Result<String, LoadError> {
        let bytes = self.bytes(2, what)?;
        let length = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        let text = self.bytes(length, what)?;
        Ok(String::from_utf8_lossy(text)
            .trim_end_matches('\0')
            .to_owned())
    }

    fn error(&self, field: &str, problem: impl Into<String>) -> LoadError {
        LoadError::Field {
            file: self.path.to_owned(),
            field: field.to_owned(),
            problem: problem.into(),
        }
    }
}
