//! A tensor in a mapped file.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use memmap2::{Mmap, UncheckedAdvice};

use crate::LoadError;

/// The type of a tensor's elements; all little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    F16,
    Bf16,
    I8,
    U8,
    I16,
    I32,
}

impl Element {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Element::F32 | Element::I32 => 4,
            Element::F16 | Element::Bf16 | Element::I16 => 2,
            Element::I8 | Element::U8 => 1,
        }
    }
}

/// Releases the memory of a part of a mapped file until it is read again.
///
/// # Panics
/// If the range is outside the file.
pub(crate) fn release(file: &Mmap, place: Range<usize>) {
    assert!(place.start <= place.end && place.end <= file.len());
    // SAFETY: the range is inside the mapping, which is read-only and, like all in this crate, of a file: dropped pages are read again
    // with the same bytes.
    let dropped =
        unsafe { file.unchecked_advise_range(UncheckedAdvice::DontNeed, place.start, place.len()) };
    if let Err(error) = dropped {
        tracing::debug!(%error, "pages of the weights stay in memory");
    }
}

/// A tensor in a mapped file, row-major.
#[derive(Clone)]
pub(crate) struct View {
    file: Arc<Mmap>,
    place: Range<usize>,
    pub element: Element,
    pub shape: Vec<usize>,
}

impl View {
    /// The tensor at `place`. Returns `None` if the range is outside the file, or does not have the size that the shape needs.
    pub fn new(
        file: &Arc<Mmap>,
        place: Range<usize>,
        element: Element,
        shape: Vec<usize>,
    ) -> Option<Self> {
        let count = shape
            .iter()
            .try_fold(1usize, |product, &size| product.checked_mul(size))?;
        let fits = place.start <= place.end
            && place.end <= file.len()
            && count.checked_mul(element.size()) == Some(place.len());
        fits.then(|| Self {
            file: Arc::clone(file),
            place,
            element,
            shape,
        })
    }

    /// The tensor with the bytes `data`, a part of the mapping `file`.
    pub fn of_part(
        file: &Arc<Mmap>,
        data: &[u8],
        element: Element,
        shape: Vec<usize>,
    ) -> Option<Self> {
        let begin = (data.as_ptr() as usize).checked_sub(file.as_ptr() as usize)?;
        Self::new(file, begin..begin + data.len(), element, shape)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.file[self.place.clone()]
    }

    /// Returns its file, for callers that must keep it mapped.
    pub fn file(&self) -> &Arc<Mmap> {
        &self.file
    }

    /// Releases the memory of its part of the file.
    pub fn release(&self) {
        release(&self.file, self.place.clone());
    }

    /// Returns the rows `range`, which must be in bounds.
    pub fn rows(&self, range: Range<usize>) -> Self {
        let size = self.columns() * self.element.size();
        let mut shape = self.shape.clone();
        shape[0] = range.len();
        Self {
            file: Arc::clone(&self.file),
            place: self.place.start + range.start * size..self.place.start + range.end * size,
            element: self.element,
            shape,
        }
    }

    /// Returns the number of elements of one row: the product of all dimensions but the first.
    pub fn columns(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Writes the elements from `first` on to `out`, as f32.
    pub fn read(&self, first: usize, out: &mut [f32]) {
        let size = self.element.size();
        let bytes = &self.bytes()[first * size..(first + out.len()) * size];
        fn each<const N: usize>(bytes: &[u8], out: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
            let (elements, _) = bytes.as_chunks::<N>();
            for (value, &element) in out.iter_mut().zip(elements) {
                *value = convert(element);
            }
        }
        match self.element {
            Element::F32 => each(bytes, out, f32::from_le_bytes),
            Element::F16 => each(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
            Element::Bf16 => each(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
            Element::I8 => each(bytes, out, |b| f32::from(i8::from_le_bytes(b))),
            Element::U8 => each(bytes, out, |b| f32::from(u8::from_le_bytes(b))),
            Element::I16 => each(bytes, out, |b| f32::from(i16::from_le_bytes(b))),
            Element::I32 => each(bytes, out, |b| i32::from_le_bytes(b) as f32),
        }
    }

    /// Returns all elements as f32.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.shape.iter().product()];
        self.read(0, &mut values);
        values
    }
}

/// Maps a file for reading.
///
/// # Errors
/// [`LoadError::Folder`] with the name of the file.
pub(super) fn map(path: &Path) -> Result<Arc<Mmap>, LoadError> {
    let failed = |error: std::io::Error| LoadError::Folder {
        folder: path.parent().unwrap_or(path).to_owned(),
        what: format!(
            "`{}` cannot be read ({error})",
            path.file_name().unwrap_or_default().to_string_lossy()
        ),
    };
    let file = File::open(path).map_err(failed)?;
    // SAFETY: this process does not write the file. If another process truncates it while it is mapped, this one is killed by a
    // signal, like every program that maps its model; if one overwrites it, the weights change.
    let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
    Ok(Arc::new(map))
}

/// The tensors of a model's file or files, by name.
pub(crate) struct Tensors {
    /// The file to name in errors.
    pub path: PathBuf,
    pub named: HashMap<String, View>,
}

impl Tensors {
    /// Returns an error about one of the tensors.
    pub fn error(&self, name: &str, problem: impl Into<String>) -> LoadError {
        LoadError::Field {
            file: self.path.clone(),
            field: format!("tensor `{name}`"),
            problem: problem.into(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A view of `bytes` in a file of its own.
    pub(crate) fn view_of(bytes: &[u8], element: Element, shape: &[usize]) -> View {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        let map = map(file.path()).unwrap();
        View::new(&map, 0..bytes.len(), element, shape.to_vec()).unwrap()
    }

    #[test]
    fn every_element_type_is_read_as_numbers() {
        let halves = [f16::from_f32(1.5), f16::from_f32(-2.0)];
        let bytes: Vec<u8> = halves.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(view_of(&bytes, Element::F16, &[2]).to_vec(), [1.5, -2.0]);
        let bytes: Vec<u8> = [1.5f32, -2.0]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        assert_eq!(view_of(&bytes, Element::F32, &[2]).to_vec(), [1.5, -2.0]);
        let brain = [bf16::from_f32(1.5), bf16::from_f32(-2.0)];
        let bytes: Vec<u8> = brain.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(view_of(&bytes, Element::Bf16, &[2]).to_vec(), [1.5, -2.0]);
        assert_eq!(view_of(&[1, 0xFE], Element::I8, &[2]).to_vec(), [1.0, -2.0]);
    }

    #[test]
    fn a_range_that_does_not_match_the_shape_is_refused() {
        let view = view_of(&[0; 16], Element::F32, &[2, 2]);
        let file = view.file();
        assert!(View::new(file, 0..16, Element::F32, vec![5]).is_none());
        assert!(View::new(file, 8..24, Element::F32, vec![4]).is_none());
        assert!(View::new(file, 0..16, Element::F32, vec![usize::MAX, 9]).is_none());
    }
}
