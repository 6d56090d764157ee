//! A cache of quantised weights, which the next start maps.
//!
//! There is one file for each model and precision, in the safetensors format. Its name consists of the SHA-256 of the source files
//! and of the names of the weights, and of the version of the quantisation. A file is complete or absent: it is written under a
//! temporary name, and renamed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::matrix::{Form, Matrix};
use super::view::{Element, View, map};

/// Incremented whenever [`Matrix::fill`] changes its output for the same weights.
const VERSION: u32 = 1;

/// Mapped quantised weights, by their names in the graphs.
pub(crate) struct Prepared(HashMap<String, View>);

impl Prepared {
    /// Maps the quantised forms of `sources`, made from `files`, from the cache in `folder`; creates them if they are missing.
    ///
    /// # Errors
    /// Errors of the file system. No incomplete file is left.
    pub fn open(
        folder: &Path,
        files: &[PathBuf],
        sources: &[(String, Matrix, Form)],
    ) -> io::Result<Self> {
        let path = folder.join(format!("{}-{VERSION}.safetensors", digest(files, sources)?));
        if path.is_file() {
            match Self::map(&path, sources) {
                Some(prepared) => {
                    mark_used(&path);
                    return Ok(prepared);
                }
                None => {
                    tracing::warn!(file = %path.display(), "cached weights are damaged; quantising them again")
                }
            }
        }
        std::fs::create_dir_all(folder)?;
        let begun = std::time::Instant::now();
        let unfinished = tempfile::NamedTempFile::new_in(folder)?;
        let tensors = sources.iter().map(|(name, matrix, form)| {
            (
                name,
                Lazy {
                    shape: matrix.shape(*form),
                    matrix,
                    form: *form,
                },
            )
        });
        safetensors::serialize_to_file(tensors, None, unfinished.path())
            .map_err(io::Error::other)?;
        File::open(unfinished.path())?.sync_all()?;
        unfinished.persist(&path).map_err(|failed| failed.error)?;
        tracing::info!(file = %path.display(), seconds = begun.elapsed().as_secs_f64(), "weights quantised and cached");
        Self::map(&path, sources)
            .ok_or_else(|| io::Error::other("the file just written cannot be read"))
    }

    /// Returns `None` if the file does not match `sources`.
    fn map(path: &Path, sources: &[(String, Matrix, Form)]) -> Option<Self> {
        let file = map(path).ok()?;
        let tensors = SafeTensors::deserialize(&file).ok()?;
        let mut views = HashMap::new();
        for (name, matrix, form) in sources {
            let tensor = tensors.tensor(name).ok()?;
            if tensor.shape() != matrix.shape(*form) || tensor.dtype() != dtype(form.element()) {
                return None;
            }
            let view = View::of_part(&file, tensor.data(), form.element(), matrix.shape(*form))?;
            views.insert(name.clone(), view);
        }
        Some(Self(views))
    }

    /// Returns the weights with this name, if they were among the sources.
    pub fn get(&self, name: &str) -> Option<&View> {
        self.0.get(name)
    }
}

/// Sets the time of the last access, by which unused files are removed. Not every file system updates it on reads.
fn mark_used(path: &Path) {
    let used = FileTimes::new().set_accessed(SystemTime::now());
    if let Err(error) = File::open(path).and_then(|file| file.set_times(used)) {
        tracing::debug!(%error, file = %path.display(), "cannot mark cached weights as used");
    }
}

/// Returns the SHA-256 of the digests of the files and of the weights' names, in hexadecimal.
fn digest(files: &[PathBuf], sources: &[(String, Matrix, Form)]) -> io::Result<String> {
    let mut hasher = Sha256::new();
    for path in files {
        let map = map(path).map_err(io::Error::other)?;
        hasher.update(Sha256::digest(&map[..]));
    }
    for (name, ..) in sources {
        hasher.update(Sha256::digest(name));
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn dtype(element: Element) -> Dtype {
    match element {
        Element::F32 => Dtype::F32,
        Element::F16 => Dtype::F16,
        Element::Bf16 => Dtype::BF16,
        Element::I8 => Dtype::I8,
        Element::U8 => Dtype::U8,
        Element::I16 => Dtype::I16,
        Element::I32 => Dtype::I32,
    }
}

/// A tensor that is computed when it is written, so that only one is in memory at a time.
struct Lazy<'a> {
    matrix: &'a Matrix,
    form: Form,
    shape: Vec<usize>,
}

impl safetensors::View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        dtype(self.form.element())
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.matrix.fill(self.form))
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.form.element().size()
    }
}

#[cfg(test)]
mod tests {
    use super::super::view_of;
    use super::*;

    fn source() -> (PathBuf, tempfile::TempDir, Vec<(String, Matrix, Form)>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.bin");
        std::fs::write(&file, "weights").unwrap();
        let bytes: Vec<u8> = (0..64).flat_map(|x| (x as f32).to_le_bytes()).collect();
        let matrix = Matrix::new(view_of(&bytes, Element::F32, &[2, 32]), None);
        let forms = [Form::BlockBytes, Form::BlockScales, Form::ColumnBytes];
        let sources = forms.map(|form| (format!("{form:?}"), matrix.clone(), form));
        (file, folder, sources.to_vec())
    }

    fn kept(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files
    }

    #[test]
    fn cached_weights_are_mapped_unchanged() {
        let (file, folder, sources) = source();
        let place = folder.path().join("prepared");
        for _ in 0..2 {
            let prepared = Prepared::open(&place, std::slice::from_ref(&file), &sources).unwrap();
            for (name, matrix, form) in &sources {
                assert_eq!(prepared.get(name).unwrap().bytes(), matrix.fill(*form));
            }
            assert_eq!(kept(&place).len(), 1);
        }
    }

    #[test]
    fn different_models_have_different_files() {
        let (file, folder, sources) = source();
        let place = folder.path().join("prepared");
        Prepared::open(&place, std::slice::from_ref(&file), &sources).unwrap();
        std::fs::write(&file, "others").unwrap();
        Prepared::open(&place, &[file], &sources).unwrap();
        assert_eq!(kept(&place).len(), 2);
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let (file, folder, sources) = source();
        let place = folder.path().join("prepared");
        Prepared::open(&place, std::slice::from_ref(&file), &sources).unwrap();
        let path = kept(&place).remove(0);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        Prepared::open(&place, &[file], &sources).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn no_incomplete_file_is_left_if_writing_fails() {
        let (file, folder, sources) = source();
        let place = folder.path().join("model.bin");
        assert!(Prepared::open(&place, &[file], &sources).is_err());
        assert_eq!(kept(folder.path()), [place]);
    }
}
