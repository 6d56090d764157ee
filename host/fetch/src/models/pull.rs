//! Pulls one file from the hub into the cache.

use futures::StreamExt as _;

use super::cache::CachedRepository;
use super::error::Error;
use super::error::root_cause;
use super::hub::{Entry, Hub};
use super::repository::Repository;
use crate::download::{self, Body, BoxError, Download, Source};
use crate::progress::Progress;

/// One file of a revision.
pub(crate) struct Pull<'a> {
    pub hub: &'a Hub,
    pub cached: &'a CachedRepository,
    pub repository: &'a Repository,
    pub commit: &'a str,
    pub file: &'a str,
    pub progress: &'a Progress,
}

impl Pull<'_> {
    /// Pulls the file, and links it into the snapshot of its revision.
    pub async fn run(&self) -> Result<(), Error> {
        let name = format!("{} {}", self.repository, self.file);
        let describe = || self.hub.entry(self.repository, self.commit, self.file);
        let entry = download::retry(&name, describe, Content::is_transient).await?;
        let path = self.cached.blob(&entry.digest);
        // The lock that the hub's other clients respect.
        let _lock = self.cached.lock(&entry.digest).await?;
        let cached = tokio::fs::metadata(&path)
            .await
            .is_ok_and(|blob| blob.len() == entry.size);
        if !cached {
            let download = Download {
                name: &name,
                path: &path,
                digest: &entry.digest,
                size: Some(entry.size),
                limit: None,
                // The hub's own protocol (xet) transfers blocks of up to 64 MiB, which may each take minutes.
                stall_timeout: None,
                progress: self.progress,
            };
            let mut content = Content {
                pull: self,
                size: entry.size,
            };
            let downloaded = download.run(&mut content).await;
            downloaded.map_err(|error| self.explain(error, &entry))?;
        }
        self.cached.link(self.commit, self.file, &entry.digest)
    }

    fn explain(&self, error: download::Error<Error>, entry: &Entry) -> Error {
        let (repository, file) = (self.repository.clone(), self.file.to_owned());
        match error {
            download::Error::Source(error) => error,
            download::Error::Interrupted { received, cause } => Error::Interrupted {
                repository,
                file,
                received,
                size: entry.size,
                cause: root_cause(&*cause),
            },
            download::Error::TooLarge { limit } => Error::Hub {
                repository,
                endpoint: self.hub.endpoint().to_owned(),
                cause: format!("{file} is larger than {limit} bytes"),
            },
            download::Error::WrongDigest { found } => Error::WrongDigest {
                repository,
                file,
                found: found.to_string(),
                stated: entry.digest.to_string(),
            },
            download::Error::Write { path, source } => Error::Write { path, source },
        }
    }
}

/// The content of a file, `size` bytes.
struct Content<'a> {
    pull: &'a Pull<'a>,
    size: u64,
}

impl Source for Content<'_> {
    type Error = Error;

    async fn open(&mut self, offset: u64) -> Result<Option<Body>, Error> {
        let Pull {
            hub,
            repository,
            commit,
            file,
            ..
        } = self.pull;
        let (length, bytes) = hub
            .bytes(repository, commit, file, offset, self.size)
            .await?;
        let is_whole = length == Some(self.size);
        let bytes = bytes.map(|piece| piece.map_err(BoxError::from)).boxed();
        Ok(Some(Body {
            offset: if is_whole { 0 } else { offset },
            size: Some(self.size),
            bytes,
        }))
    }

    fn is_transient(error: &Error) -> bool {
        matches!(error, Error::Unreachable { .. } | Error::Hub { .. })
    }
}
