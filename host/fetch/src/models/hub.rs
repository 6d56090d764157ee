//! The hub, through its own client. What a file's digest is, the client does not tell of files in large-file storage: it
//! follows the redirection to where they lie, and the digest is in the answer that redirects. So that one request is made
//! here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use hf_hub::{HFClient, HFError, HFRepository, RepoTypeModel};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, ETAG, HeaderName};

use super::digest::Digest;
use super::error::Error;
use super::error::root_cause;
use super::repository::Repository;

/// How long the hub may take to accept a connection, and to send the next piece.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the client itself tries a request again, within a second; a whole file is tried again by `download`.
const ATTEMPTS: usize = 2;

/// The revision that is taken: a repository's main branch.
pub(crate) const REVISION: &str = "main";

/// The hub that `HF_ENDPOINT` names, with the token and the cache that the environment names.
pub(crate) struct Hub {
    client: HFClient,
    /// For digests: does not leave the hub.
    head: reqwest::Client,
    token: Option<String>,
}

/// What a repository holds now.
pub(crate) struct Revision {
    /// Git's name of the revision, 40 hexadecimal digits.
    pub commit: String,
    /// Paths of all files.
    pub files: Vec<String>,
}

/// A file of a repository, as the hub describes it.
pub(crate) struct Entry {
    pub size: u64,
    pub digest: Digest,
}

impl Hub {
    pub fn new() -> Result<Self, Error> {
        // The libraries below take TLS's algorithms from the process's default. Refused where it is set already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = || {
            reqwest::Client::builder()
                .user_agent(concat!("faster-whisper-api/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
        };
        let within_the_hub = reqwest::redirect::Policy::custom(|attempt| {
            let from = attempt.previous().last();
            let stays = from.is_some_and(|from| from.origin() == attempt.url().origin());
            if stays && attempt.previous().len() <= 10 {
                attempt.follow()
            } else {
                attempt.stop()
            }
        });
        let set_up = |error: reqwest::Error| Error::Client(root_cause(&error));
        let head = client().redirect(within_the_hub).build().map_err(set_up)?;
        let token = token();
        let mut builder = HFClient::builder()
            .client(client().build().map_err(set_up)?)
            .retry_max_attempts(ATTEMPTS);
        if let Some(token) = &token {
            builder = builder.token(token);
        }
        let client = builder
            .build()
            .map_err(|error| Error::Client(error.to_string()))?;
        Ok(Self {
            client,
            head,
            token,
        })
    }

    /// The folder of the cache.
    pub fn cache(&self) -> &Path {
        self.client.cache_dir()
    }

    pub fn endpoint(&self) -> &str {
        self.client.endpoint()
    }

    fn repository(&self, repository: &Repository) -> HFRepository<RepoTypeModel> {
        self.client.model(&repository.owner, &repository.name)
    }

    /// The folder of a repository's files in the cache, complete or not. Asks nobody.
    pub async fn cached(&self, repository: &Repository) -> Option<PathBuf> {
        self.repository(repository)
            .snapshot_download()
            .local_files_only(true)
            .revision(REVISION)
            .send()
            .await
            .ok()
    }

    /// All that is in the cache.
    pub async fn scan(&self) -> Result<hf_hub::cache::HFCacheInfo, Error> {
        self.client
            .scan_cache()
            .send()
            .await
            .map_err(|error| Error::Read {
                path: self.cache().to_owned(),
                source: std::io::Error::other(error),
            })
    }

    /// What the repository holds now.
    pub async fn revision(&self, repository: &Repository) -> Result<Revision, Error> {
        let info = self
            .repository(repository)
            .info()
            .revision(REVISION)
            .send()
            .await
            .map_err(|error| self.failed(repository, None, &error))?;
        let commit = info
            .sha
            .filter(|sha| sha.len() == 40 && sha.bytes().all(|b| b.is_ascii_hexdigit()));
        let (Some(commit), Some(files)) = (commit, info.siblings) else {
            return Err(self.answered(
                repository,
                "its description of the repository lacks the revision or the files",
            ));
        };
        let files = files.into_iter().map(|file| file.rfilename).collect();
        Ok(Revision { commit, files })
    }

    /// Size and digest of a file.
    pub async fn entry(
        &self,
        repository: &Repository,
        commit: &str,
        file: &str,
    ) -> Result<Entry, Error> {
        const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
        const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
        let url = format!("{}/{repository}/resolve/{commit}/{file}", self.endpoint());
        // The size is that of the file itself, not of a compressed form.
        let mut request = self.head.head(url).header(ACCEPT_ENCODING, "identity");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| self.unreachable(repository, &error))?;
        let status = answer.status();
        if !status.is_success() && !status.is_redirection() {
            return Err(self.refused(repository, Some(file), status));
        }
        let header = |names: [HeaderName; 2]| {
            let value = names.iter().find_map(|name| answer.headers().get(name))?;
            value.to_str().ok()
        };
        let digest = header([LINKED_ETAG, ETAG]).and_then(Digest::from_etag);
        let size = header([LINKED_SIZE, CONTENT_LENGTH]).and_then(|size| size.parse().ok());
        match (size, digest) {
            (Some(size), Some(digest)) => Ok(Entry { size, digest }),
            _ => Err(Error::NoDigest {
                repository: repository.clone(),
                file: file.to_owned(),
            }),
        }
    }

    /// The bytes of a file from the one at `from` on, which must be less than its size.
    pub async fn bytes(
        &self,
        repository: &Repository,
        commit: &str,
        file: &str,
        from: u64,
        size: u64,
    ) -> Result<impl Stream<Item = Result<impl AsRef<[u8]>, HFError>> + Unpin, Error> {
        let range = (from > 0).then_some(from..size);
        let (_, bytes) = self
            .repository(repository)
            .download_file_stream()
            .filename(file)
            .revision(commit)
            .maybe_range(range)
            .send()
            .await
            .map_err(|error| self.failed(repository, Some(file), &error))?;
        Ok(bytes.fuse())
    }

    /// The error for what the client says of a request.
    fn failed(&self, repository: &Repository, file: Option<&str>, error: &HFError) -> Error {
        match error {
            HFError::AuthRequired { context } | HFError::Forbidden { context } => {
                self.refused(repository, file, context.status)
            }
            HFError::RepoNotFound { .. }
            | HFError::RevisionNotFound { .. }
            | HFError::EntryNotFound { .. } => {
                self.refused(repository, file, StatusCode::NOT_FOUND)
            }
            HFError::Request { source, .. } => self.unreachable(repository, source),
            error => self.answered(repository, &error.to_string()),
        }
    }

    fn refused(&self, repository: &Repository, file: Option<&str>, status: StatusCode) -> Error {
        let (repository, endpoint) = (repository.clone(), self.endpoint().to_owned());
        match (status, file) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Error::Denied {
                repository,
                endpoint,
                status: status.as_u16(),
            },
            (StatusCode::NOT_FOUND, None) => Error::NoRepository {
                repository,
                endpoint,
            },
            (StatusCode::NOT_FOUND, Some(file)) => Error::MissingFile {
                repository,
                file: file.to_owned(),
            },
            (status, _) => self.answered(&repository, &format!("it answered {status}")),
        }
    }

    fn unreachable(&self, repository: &Repository, error: &reqwest::Error) -> Error {
        Error::Unreachable {
            repository: repository.clone(),
            endpoint: self.endpoint().to_owned(),
            cause: root_cause(error),
        }
    }

    fn answered(&self, repository: &Repository, cause: &str) -> Error {
        Error::Hub {
            repository: repository.clone(),
            endpoint: self.endpoint().to_owned(),
            cause: cause.to_owned(),
        }
    }
}

/// Whether the environment forbids to use the network, in the hub's own words for it.
pub(crate) fn is_offline() -> bool {
    std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| {
        ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
    })
}

/// The token, from where the client takes it, too.
fn token() -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some() {
        return None;
    }
    let from_file = |path: PathBuf| {
        let token = std::fs::read_to_string(path).ok()?.trim().to_owned();
        (!token.is_empty()).then_some(token)
    };
    set("HF_TOKEN")
        .or_else(|| from_file(set("HF_TOKEN_PATH")?.into()))
        .or_else(|| from_file(hf_hub::hf_home().join("token")))
}
