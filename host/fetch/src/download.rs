//! Downloads one file: streams it to disk, resumes where an earlier attempt broke off, and verifies its digest before it gets
//! its name.
//!
//! Until then its content is in a partial file beside it, `NAME.incomplete`, which is locked while a process writes it. Memory
//! does not grow with the file.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_retry::RetryIf;
use tokio_retry::strategy::ExponentialBackoff;

use crate::digest::{Digest, Hasher};
use crate::progress::Progress;

/// Extension of partial files. Clients of the Hugging Face hub in other languages use the same.
const PARTIAL: &str = "incomplete";

/// Bytes that must arrive within [`Download::stall_timeout`]. A connection with less is given up.
const MIN_PROGRESS: u64 = 64 << 10;

/// Where the content of a file comes from.
pub(crate) trait Source: Send {
    /// Why a source does not send the content.
    type Error: std::fmt::Debug + std::fmt::Display + Send;

    /// Requests the content from the byte at `offset` on. None if the source cannot send that range; not at offset 0.
    fn open(
        &mut self,
        offset: u64,
    ) -> impl Future<Output = Result<Option<Body>, Self::Error>> + Send;

    /// Returns whether a request that failed may succeed if it is sent again.
    fn is_transient(error: &Self::Error) -> bool;

    /// Checks the first [`HEAD`] bytes of verified content, or fewer where it has fewer.
    fn check(_head: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Bytes that [`Source::check`] gets.
pub(crate) const HEAD: usize = 8;

/// The answer of a [`Source`].
pub(crate) struct Body {
    /// Offset of the first byte: what was asked for, or 0 if the source always sends the whole file.
    pub offset: u64,
    /// Bytes of the whole file, as the source states them.
    pub size: Option<u64>,
    pub bytes: BoxStream<'static, Result<Bytes, BoxError>>,
}

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A file to download.
pub(crate) struct Download<'a> {
    /// Name for progress and the log.
    pub name: &'a str,
    /// Path of the complete file.
    pub path: &'a Path,
    pub digest: &'a Digest,
    /// Bytes of the file, where they are certain. What a server states is only displayed.
    pub size: Option<u64>,
    /// Bytes that the file may have at most.
    pub limit: Option<u64>,
    /// Time in which the next [`MIN_PROGRESS`] bytes must arrive. None leaves it to the source.
    pub stall_timeout: Option<Duration>,
    pub progress: &'a Progress,
}

/// Why a file was not downloaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error<E> {
    /// The source does not send the content, or refuses it.
    #[error("{0}")]
    Source(E),
    /// The connection broke off, or is too slow. What has arrived is kept.
    #[error("the connection broke off after {received} bytes: {cause}")]
    Interrupted { received: u64, cause: BoxError },
    #[error("the file is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the digest of the file is {found}")]
    WrongDigest { found: Digest },
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl<E> Error<E> {
    fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Write {
            path: path.to_owned(),
            source,
        }
    }
}

impl Download<'_> {
    /// Downloads the file, and returns how many bytes it has. Tries again where the connection breaks off.
    ///
    /// If another process downloads the same file, waits for it.
    pub async fn run<S: Source>(&self, source: &mut S) -> Result<u64, Error<S::Error>> {
        let path = self.path.with_extension(PARTIAL);
        let write = || Error::write(&path);
        let Some(file) = self.open_partial(&path).await.map_err(write())? else {
            let metadata = tokio::fs::metadata(self.path).await;
            return Ok(metadata.map_err(Error::write(self.path))?.len());
        };
        let mut partial = Partial::resume(file, self.digest).await.map_err(write())?;
        if (self.size.or(self.limit)).is_some_and(|most| partial.received > most) {
            partial.clear().await.map_err(write())?;
        }
        let state = Mutex::new((partial, source));
        let fetched = retry(
            self.name,
            || async {
                let (partial, source) = &mut *state.lock().await;
                self.fetch(partial, &path, *source).await
            },
            |error| match error {
                Error::Source(error) => S::is_transient(error),
                Error::Interrupted { .. } => true,
                _ => false,
            },
        );
        match fetched.await {
            Ok(()) => {}
            Err(error) => {
                if let Error::TooLarge { .. } | Error::WrongDigest { .. } = error {
                    tokio::fs::remove_file(&path).await.map_err(write())?;
                }
                return Err(error);
            }
        }
        let (mut partial, _) = state.into_inner();
        let head = partial.head().await.map_err(write())?;
        if let Err(error) = S::check(&head) {
            tokio::fs::remove_file(&path).await.map_err(write())?;
            return Err(Error::Source(error));
        }
        partial.file.sync_all().await.map_err(write())?;
        self.rename(&path).await.map_err(Error::write(self.path))?;
        Ok(partial.received)
    }

    /// Opens and locks the partial file. None if another process completed the download meanwhile.
    async fn open_partial(&self, path: &Path) -> io::Result<Option<std::fs::File>> {
        loop {
            let file = std::fs::File::options()
                .create(true)
                .read(true)
                .append(true)
                .open(path)?;
            let file = lock(file).await?;
            // Whoever held the lock before has moved the file into place, or removed it.
            let locked = file.metadata()?;
            let is_at = |path: &Path| {
                std::fs::metadata(path)
                    .is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino()))
            };
            if is_at(path) {
                return Ok(Some(file));
            }
            if is_at(self.path) {
                return Ok(None);
            }
        }
    }

    /// Completes the partial file with content of the right digest.
    async fn fetch<S: Source>(
        &self,
        partial: &mut Partial,
        path: &Path,
        source: &mut S,
    ) -> Result<(), Error<S::Error>> {
        loop {
            if !self.is_complete(partial) {
                self.receive(partial, path, source).await?;
            }
            let found = partial.digest();
            if found == *self.digest {
                return Ok(());
            }
            if !partial.resumed {
                return Err(Error::WrongDigest { found });
            }
            // What earlier requests have left may be wrong.
            tracing::warn!(
                file = self.name,
                "the partial file does not fit: downloading it from the start"
            );
            partial.clear().await.map_err(Error::write(path))?;
        }
    }

    /// Returns whether there is nothing left to request.
    fn is_complete(&self, partial: &Partial) -> bool {
        (self.size == Some(partial.received))
            || (partial.received > 0 && partial.digest() == *self.digest)
    }

    /// Appends what the source sends.
    async fn receive<S: Source>(
        &self,
        partial: &mut Partial,
        path: &Path,
        source: &mut S,
    ) -> Result<(), Error<S::Error>> {
        let write = || Error::write(path);
        let mut body = self.open(partial, path, source).await?;
        let size = self.size.or(body.size);
        self.check_limit(size.unwrap_or(0))?;
        (self.progress)(self.name, partial.received, size);
        let mut window = Window::new(self.stall_timeout, partial.received);
        let ended = loop {
            match window.next(&mut body.bytes).await {
                Ok(Some(piece)) => {
                    self.check_limit(partial.received + piece.len() as u64)?;
                    partial.append(&piece).await.map_err(write())?;
                    let shown = size.map_or(partial.received, |size| partial.received.min(size));
                    (self.progress)(self.name, shown, size);
                    window.arrived(partial.received);
                    if self.size.is_some_and(|size| partial.received > size) {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(cause) => break Err(cause),
            }
        };
        partial.file.flush().await.map_err(write())?;
        ended.map_err(|cause| partial.interrupted(cause))?;
        if self.size.is_some_and(|size| partial.received < size) {
            return Err(partial.interrupted("the answer ended early".into()));
        }
        Ok(())
    }

    /// Requests what is missing, or the whole file where the source cannot send that.
    async fn open<S: Source>(
        &self,
        partial: &mut Partial,
        path: &Path,
        source: &mut S,
    ) -> Result<Body, Error<S::Error>> {
        partial.resumed = partial.received > 0;
        let mut body = source.open(partial.received).await.map_err(Error::Source)?;
        if body.is_none() {
            partial.clear().await.map_err(Error::write(path))?;
            body = source.open(0).await.map_err(Error::Source)?;
        }
        let body = body.ok_or_else(|| partial.interrupted("the source sent nothing".into()))?;
        if body.offset == 0 && partial.received > 0 {
            partial.clear().await.map_err(Error::write(path))?;
            // The source may be wrong that this is the whole file.
            partial.resumed = true;
        }
        Ok(body)
    }

    fn check_limit<E>(&self, bytes: u64) -> Result<(), Error<E>> {
        match self.limit {
            Some(limit) if bytes > limit => Err(Error::TooLarge { limit }),
            _ => Ok(()),
        }
    }

    /// Gives the complete file its name, durably.
    async fn rename(&self, partial: &Path) -> io::Result<()> {
        tokio::fs::rename(partial, self.path).await?;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        File::open(folder).await?.sync_all().await
    }
}

/// The content that has arrived.
struct Partial {
    file: File,
    hasher: Hasher,
    received: u64,
    /// Whether the content may be of several requests, which may not fit together.
    resumed: bool,
}

impl Partial {
    /// Hashes what is in the file.
    async fn resume(mut file: std::fs::File, digest: &Digest) -> io::Result<Self> {
        let mut hasher = digest.hasher();
        let hashed = tokio::task::spawn_blocking(move || {
            let received = hasher.read(&mut file)?;
            Ok((file, hasher, received))
        });
        let (file, hasher, received) = hashed.await.map_err(io::Error::other).flatten()?;
        Ok(Self {
            file: File::from_std(file),
            hasher,
            received,
            resumed: received > 0,
        })
    }

    async fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        self.hasher.update(piece);
        self.file.write_all(piece).await?;
        self.received += piece.len() as u64;
        Ok(())
    }

    async fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0).await?;
        self.hasher = self.digest().hasher();
        self.received = 0;
        self.resumed = false;
        Ok(())
    }

    fn interrupted<E>(&self, cause: BoxError) -> Error<E> {
        Error::Interrupted {
            received: self.received,
            cause,
        }
    }

    fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// The first [`HEAD`] bytes.
    async fn head(&mut self) -> io::Result<Vec<u8>> {
        self.file.rewind().await?;
        let mut head = Vec::new();
        (&mut self.file)
            .take(HEAD as u64)
            .read_to_end(&mut head)
            .await?;
        Ok(head)
    }
}

/// The time in which the next [`MIN_PROGRESS`] bytes must arrive.
struct Window {
    stall_timeout: Option<Duration>,
    since: Instant,
    before: u64,
}

impl Window {
    fn new(stall_timeout: Option<Duration>, received: u64) -> Self {
        Self {
            stall_timeout,
            since: Instant::now(),
            before: received,
        }
    }

    async fn next(
        &self,
        bytes: &mut BoxStream<'static, Result<Bytes, BoxError>>,
    ) -> Result<Option<Bytes>, BoxError> {
        let Some(stall_timeout) = self.stall_timeout else {
            return bytes.next().await.transpose();
        };
        match tokio::time::timeout_at(self.since + stall_timeout, bytes.next()).await {
            Ok(piece) => piece.transpose(),
            Err(_) => Err(format!(
                "less than {} KiB arrived in {}",
                MIN_PROGRESS >> 10,
                humantime::format_duration(stall_timeout)
            )
            .into()),
        }
    }

    fn arrived(&mut self, received: u64) {
        if received - self.before >= MIN_PROGRESS {
            self.since = Instant::now();
            self.before = received;
        }
    }
}

/// Runs an attempt, and again where its error is transient: after half a second, then one, two and four.
pub(crate) async fn retry<T, E, F: Future<Output = Result<T, E>>>(
    name: &str,
    attempt: impl FnMut() -> F,
    is_transient: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let delays = ExponentialBackoff::from_millis(2)
        .factor(250)
        .take(4)
        .inspect(|delay| {
            tracing::warn!(
                file = name,
                "the download was interrupted: trying again in {delay:?}"
            );
        });
    RetryIf::start(delays, attempt, is_transient).await
}

/// Locks a file until it is closed. Waits while another process holds the lock.
pub(crate) async fn lock(file: std::fs::File) -> io::Result<std::fs::File> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            tracing::warn!("another process is fetching the same file: waiting for it to finish");
            tokio::task::spawn_blocking(move || file.lock().map(|()| file))
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::path::PathBuf;
    use std::time::Duration;

    use futures::StreamExt as _;
    use tempfile::TempDir;

    use super::{Body, BoxError, Bytes, Digest, Download, Error, MIN_PROGRESS, Source};

    /// Answers requests with pieces, after the last of which nothing comes any more if it does not end.
    #[derive(Default)]
    struct Script {
        answers: VecDeque<(Vec<Bytes>, bool)>,
        offsets: Vec<u64>,
    }

    impl Script {
        fn answer(mut self, pieces: &[&'static [u8]], ends: bool) -> Self {
            let pieces = pieces.iter().copied().map(Bytes::from_static).collect();
            self.answers.push_back((pieces, ends));
            self
        }
    }

    impl Source for Script {
        type Error = String;

        async fn open(&mut self, offset: u64) -> Result<Option<Body>, String> {
            self.offsets.push(offset);
            let (pieces, ends) = self.answers.pop_front().ok_or("asked once more")?;
            let pieces = futures::stream::iter(pieces.into_iter().map(Ok::<_, BoxError>));
            let bytes = match ends {
                true => pieces.boxed(),
                false => pieces.chain(futures::stream::pending()).boxed(),
            };
            Ok(Some(Body {
                offset,
                size: None,
                bytes,
            }))
        }

        fn is_transient(_: &String) -> bool {
            false
        }
    }

    /// A file to download, with the digest of `content`.
    struct Fixture {
        folder: TempDir,
        digest: Digest,
    }

    impl Fixture {
        fn new(content: &[u8]) -> Self {
            Self {
                folder: tempfile::tempdir().unwrap(),
                digest: Digest::from(&manifest::Digest::of(content)),
            }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join(self.digest.digits())
        }

        async fn download(
            &self,
            script: &mut Script,
            limit: u64,
            stall_timeout: Option<Duration>,
        ) -> Result<u64, Error<String>> {
            let download = Download {
                name: "it",
                path: &self.path(),
                digest: &self.digest,
                size: None,
                limit: Some(limit),
                stall_timeout,
                progress: &|_, _, _| {},
            };
            download.run(script).await
        }

        fn is_empty(&self) -> bool {
            self.folder.path().read_dir().unwrap().next().is_none()
        }
    }

    #[tokio::test]
    async fn a_file_of_unknown_size_is_refused_beyond_the_limit() {
        let fixture = Fixture::new(b"1234567890");
        let script = || Script::default().answer(&[b"12345", b"67890"], true);
        let error = fixture.download(&mut script(), 9, None).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: 9 }), "{error}");
        assert!(fixture.is_empty());
        let bytes = fixture.download(&mut script(), 10, None).await.unwrap();
        assert_eq!(bytes, 10);
        assert_eq!(std::fs::read(fixture.path()).unwrap(), b"1234567890");
    }

    #[tokio::test]
    async fn what_does_not_fit_together_is_downloaded_from_the_start() {
        let fixture = Fixture::new(b"1234567890");
        let stall_timeout = Some(Duration::from_millis(100));
        let mut script = Script::default()
            .answer(&[b"12345"], false)
            .answer(&[b"other"], true)
            .answer(&[b"1234567890"], true);
        let bytes = fixture.download(&mut script, 10, stall_timeout).await;
        assert_eq!(bytes.unwrap(), 10);
        assert_eq!(script.offsets, [0, 5, 0]);

        let mut script = Script::default().answer(&[b"changed"], true);
        let error = fixture.download(&mut script, 10, stall_timeout).await;
        let error = error.unwrap_err();
        assert!(matches!(error, Error::WrongDigest { .. }), "{error}");
        assert_eq!(script.offsets, [0]);
        let left = fixture.folder.path().read_dir().unwrap().count();
        assert_eq!(left, 1, "only the file of the first download");
    }

    #[tokio::test]
    async fn a_stalled_download_is_resumed() {
        static PIECE: [u8; MIN_PROGRESS as usize] = [7; MIN_PROGRESS as usize];
        let fixture = Fixture::new(&[&PIECE[..], b"the end"].concat());
        let mut script = Script::default()
            .answer(&[&PIECE, b"the "], false)
            .answer(&[b"end"], true);
        let stall_timeout = Some(Duration::from_millis(100));
        let bytes = fixture.download(&mut script, u64::MAX, stall_timeout).await;
        assert_eq!(bytes.unwrap(), MIN_PROGRESS + 7);
        assert_eq!(script.offsets, [0, MIN_PROGRESS + 4]);
    }
}
