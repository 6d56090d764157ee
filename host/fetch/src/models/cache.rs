//! The hub's cache on disk, as its clients in all languages share it: `models--OWNER--NAME` with `blobs/` named by digest,
//! `snapshots/COMMIT/` of links to them, and `refs/main` with the commit.
//!
//! The client's own functions that write it are private. A repository is in the cache once `refs/main` names a revision and its
//! files are complete, so the reference is written last.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::hub::REVISION;
use super::repository::Repository;
use crate::digest::Digest;
use crate::download;

/// One repository's part of the cache.
pub(crate) struct CachedRepository {
    folder: PathBuf,
    locks: PathBuf,
}

impl CachedRepository {
    pub fn new(cache: &Path, repository: &Repository) -> Self {
        let name = format!("models--{}--{}", repository.owner, repository.name);
        Self {
            folder: cache.join(&name),
            locks: cache.join(".locks").join(name),
        }
    }

    /// Path of the content with a digest.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs").join(digest.digits())
    }

    /// The folder of a revision's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Waits until no other process pulls this content, and locks it until the file is closed.
    pub async fn lock(&self, digest: &Digest) -> Result<File, Error> {
        let path = self.locks.join(format!("{}.lock", digest.digits()));
        let blobs = self.folder.join("blobs");
        fs::create_dir_all(&blobs).map_err(Error::write(&blobs))?;
        fs::create_dir_all(&self.locks).map_err(Error::write(&self.locks))?;
        let file = File::create(&path).map_err(Error::write(&path))?;
        download::lock(file).await.map_err(Error::write(&path))
    }

    /// Links a file of a revision to its content.
    pub fn link(&self, commit: &str, file: &str, digest: &Digest) -> Result<(), Error> {
        let link = self.snapshot(commit).join(file);
        let up = "../".repeat(2 + file.matches('/').count());
        let target = format!("{up}blobs/{}", digest.digits());
        let put = || {
            fs::create_dir_all(link.parent().unwrap_or(&link))?;
            match fs::remove_file(&link) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            std::os::unix::fs::symlink(&target, &link)
        };
        put().map_err(Error::write(&link))
    }

    /// Makes a revision the current one.
    pub fn use_revision(&self, commit: &str) -> Result<(), Error> {
        let reference = self.folder.join("refs").join(REVISION);
        let new = reference.with_extension("new");
        let put = || {
            fs::create_dir_all(self.folder.join("refs"))?;
            fs::write(&new, commit)?;
            fs::rename(&new, &reference)
        };
        put().map_err(Error::write(&reference))
    }

    /// Removes the repository with all of its revisions, and returns how many bytes it had. None if it is not in the cache.
    pub fn remove(&self) -> Result<Option<u64>, Error> {
        if !self.folder.is_dir() {
            return Ok(None);
        }
        let size = size(&self.folder).map_err(Error::read(&self.folder))?;
        // The references go first, so that what is half removed is not taken for a model.
        for path in [
            &self.folder.join("refs"),
            &self.folder.join("snapshots"),
            &self.folder,
            &self.locks,
        ] {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::write(path)(error));
                }
                _ => {}
            }
        }
        Ok(Some(size))
    }
}

/// Paths of all files in a folder and in its `onnx/`, without dangling links.
pub(crate) fn files(folder: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    for below in ["", "onnx/"] {
        let entries = match fs::read_dir(folder.join(below)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if let (Some(name), true) = (entry.file_name().to_str(), entry.path().is_file()) {
                files.push(format!("{below}{name}"));
            }
        }
    }
    Ok(files)
}

/// Bytes of all files below a folder. Links are not followed.
pub(crate) fn size(folder: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            size += self::size(&entry.path())?;
        } else if kind.is_file() {
            size += entry.metadata()?.len();
        }
    }
    Ok(size)
}
