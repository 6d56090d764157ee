//! One file from the hub into the cache: it goes on where an earlier attempt broke off, and counts only once its digest is
//! the one that the hub states.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_retry::RetryIf;
use tokio_retry::strategy::ExponentialBackoff;

use super::cache::CachedRepository;
use super::digest::Hasher;
use super::error::Error;
use super::error::root_cause;
use super::hub::{Entry, Hub};
use super::repository::Repository;
use crate::progress::Progress;

/// One file of a revision, on its way.
pub(crate) struct Download<'a> {
    pub hub: &'a Hub,
    pub cached: &'a CachedRepository,
    pub repository: &'a Repository,
    pub commit: &'a str,
    pub file: &'a str,
    pub progress: &'a Progress,
}

impl Download<'_> {
    /// Fetches it, again and again where the connection breaks off: after half a second, then one, two and four.
    pub async fn run(&self) -> Result<(), Error> {
        let delays = ExponentialBackoff::from_millis(2)
            .factor(250)
            .take(4)
            .inspect(|delay: &Duration| {
                tracing::warn!(
                    file = self.file,
                    "the connection broke off: trying again in {delay:?}"
                );
            });
        let is_passing = |error: &Error| {
            matches!(
                error,
                Error::Interrupted { .. } | Error::Unreachable { .. } | Error::Hub { .. }
            )
        };
        RetryIf::start(delays, || self.attempt(), is_passing).await
    }

    async fn attempt(&self) -> Result<(), Error> {
        let entry = self
            .hub
            .entry(self.repository, self.commit, self.file)
            .await?;
        let blob = self.cached.blob(&entry.digest);
        let _lock = self.cached.lock(&entry.digest).await?;
        let there = fs::metadata(&blob)
            .await
            .is_ok_and(|blob| blob.len() == entry.size);
        if !there {
            let partial = self.cached.partial(&entry.digest);
            self.complete(&partial, &entry).await?;
            fs::rename(&partial, &blob)
                .await
                .map_err(Error::write(&blob))?;
        }
        self.cached.link(self.commit, self.file, &entry.digest)
    }

    /// Fetches what the partial file lacks, and verifies the whole.
    async fn complete(&self, partial: &Path, entry: &Entry) -> Result<(), Error> {
        loop {
            let mut hasher = entry.digest.hasher(entry.size);
            let mut file = OpenOptions::new()
                .create(true)
                .read(true)
                .append(true)
                .open(partial)
                .await
                .map_err(Error::write(partial))?;
            let kept = kept(&mut file, entry.size, &mut hasher)
                .await
                .map_err(Error::write(partial))?;
            self.receive(&mut file, partial, kept, entry, &mut hasher)
                .await?;
            let found = hasher.finish();
            if found == entry.digest {
                return file.sync_all().await.map_err(Error::write(partial));
            }
            fs::remove_file(partial)
                .await
                .map_err(Error::write(partial))?;
            if kept == 0 {
                return Err(Error::WrongDigest {
                    repository: self.repository.clone(),
                    file: self.file.to_owned(),
                    found: found.to_string(),
                    stated: entry.digest.to_string(),
                });
            }
            // It is the earlier run's part that may be wrong, or the server that sent all of it again.
            tracing::warn!(
                file = self.file,
                "what an earlier run left does not fit: fetching it from the start"
            );
        }
    }

    /// Appends what the hub sends after the first `kept` bytes.
    async fn receive(
        &self,
        file: &mut File,
        partial: &Path,
        kept: u64,
        entry: &Entry,
        hasher: &mut Hasher,
    ) -> Result<(), Error> {
        let size = entry.size;
        let name = format!("{} {}", self.repository, self.file);
        let mut received = kept;
        (self.progress)(&name, received, Some(size));
        if received == size {
            return Ok(());
        }
        let mut bytes = self
            .hub
            .bytes(self.repository, self.commit, self.file, kept, size)
            .await?;
        let mut broken = None;
        while let Some(piece) = bytes.next().await {
            match piece {
                Ok(piece) => {
                    let piece = piece.as_ref();
                    hasher.update(piece);
                    file.write_all(piece).await.map_err(Error::write(partial))?;
                    received += piece.len() as u64;
                    (self.progress)(&name, received.min(size), Some(size));
                    if received > size {
                        break;
                    }
                }
                Err(error) => {
                    broken = Some(root_cause(&error));
                    break;
                }
            }
        }
        file.flush().await.map_err(Error::write(partial))?;
        if received < size {
            return Err(Error::Interrupted {
                repository: self.repository.clone(),
                file: self.file.to_owned(),
                received,
                size,
                cause: broken.unwrap_or_else(|| "the answer ended early".into()),
            });
        }
        Ok(())
    }
}

/// How many bytes of a file of `size` bytes an earlier run left; they go through the hasher. More than that is not of this
/// file, and is dropped.
async fn kept(file: &mut File, size: u64, hasher: &mut Hasher) -> io::Result<u64> {
    let kept = file.metadata().await?.len();
    if kept > size {
        file.set_len(0).await?;
        return Ok(0);
    }
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).await? {
            0 => return Ok(kept),
            read => hasher.update(&buffer[..read]),
        }
    }
}
