//! The Hugging Face hub, through its own client (hf-hub).
//!
//! The client does not tell the digest of a file in large-file storage: the digest is in the answer that redirects to the file, and
//! the client follows the redirect. So that one request is made here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use hf_hub::{HFClient, HFError, HFRepository, RepoTypeModel};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, ETAG, HeaderName};
use reqwest::redirect::Policy;

use super::error::Error;
use super::error::root_cause;
use super::repository::Repository;
use crate::digest::Digest;
use crate::secrets::without_queries;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the client itself sends a request, within a second. Downloads are retried in `download`.
const ATTEMPTS: usize = 2;

const MAX_REDIRECTS: usize = 10;

/// The revision that is pulled: a repository's main branch.
pub(crate) const REVISION: &str = "main";

/// The hub, the token and the cache that the environment names.
pub(crate) struct Hub {
    client: HFClient,
    /// Requests digests. Does not follow redirects to other servers.
    head: reqwest::Client,
    token: Option<String>,
}

/// The current revision of a repository.
pub(crate) struct Revision {
    /// SHA-1 of the commit, 40 hexadecimal digits.
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
        let within_the_hub = Policy::custom(|attempt| {
            let from = attempt.previous().last();
            let stays = from.is_some_and(|from| from.origin() == attempt.url().origin());
            if stays && attempt.previous().len() <= MAX_REDIRECTS {
                attempt.follow()
            } else {
                attempt.stop()
            }
        });
        let set_up = |error: reqwest::Error| Error::Client(root_cause(&error));
        let head = client().redirect(within_the_hub).build().map_err(set_up)?;
        let token = token();
        let redirects = match token {
            Some(_) => guarding_the_token(),
            None => Policy::limited(MAX_REDIRECTS),
        };
        let mut builder = HFClient::builder()
            .client(client().redirect(redirects).build().map_err(set_up)?)
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

    /// The folder of a repository's files in the cache, complete or not. Sends no request.
    pub async fn cached(&self, repository: &Repository) -> Option<PathBuf> {
        self.repository(repository)
            .snapshot_download()
            .local_files_only(true)
            .revision(REVISION)
            .send()
            .await
            .ok()
    }

    /// Everything in the cache.
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

    /// The current revision of a repository.
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
        // Otherwise the size may be that of a compressed form.
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
        let size: Option<u64> =
            header([LINKED_SIZE, CONTENT_LENGTH]).and_then(|size| size.parse().ok());
        let entry = size.and_then(|size| {
            let digest = Digest::from_etag(header([LINKED_ETAG, ETAG])?, size)?;
            Some(Entry { size, digest })
        });
        entry.ok_or_else(|| Error::NoDigest {
            repository: repository.clone(),
            file: file.to_owned(),
        })
    }

    /// Bytes of a file of `size` bytes, from the one at `from` on, which must be less than `size`; and how many they are, where
    /// the hub states it.
    pub async fn bytes(
        &self,
        repository: &Repository,
        commit: &str,
        file: &str,
        from: u64,
        size: u64,
    ) -> Result<
        (
            Option<u64>,
            impl Stream<Item = Result<Bytes, HFError>> + Send + use<>,
        ),
        Error,
    > {
        let range = (from > 0).then_some(from..size);
        self.repository(repository)
            .download_file_stream()
            .filename(file)
            .revision(commit)
            .maybe_range(range)
            .send()
            .await
            .map_err(|error| self.failed(repository, Some(file), &error))
    }

    /// The error for a request of the client that failed.
    fn failed(&self, repository: &Repository, file: Option<&str>, error: &HFError) -> Error {
        match error {
            HFError::AuthRequired { context } | HFError::Forbidden { context }
                if self.has(&context.url) =>
            {
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

    /// Returns whether a URL is the hub's own, and not of a server that it redirects to.
    fn has(&self, url: &str) -> bool {
        let origin = |url| reqwest::Url::parse(url).ok().map(|url| url.origin());
        origin(url).is_some_and(|own| Some(own) == origin(self.endpoint()))
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
            cause: without_queries(cause),
        }
    }
}

/// What the clients have in common.
fn client() -> reqwest::ClientBuilder {
    crate::tls::use_ring();
    reqwest::Client::builder()
        .user_agent(concat!("faster-whisper-api/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        // It would tell the next server the signature of a URL.
        .referer(false)
}

/// Follows redirects, unless the token would reach another server.
///
/// reqwest removes the token where a redirect leads to another origin than the one before it. But it starts from the headers of the
/// first request each time, so a server that then redirects to itself would get the token.
fn guarding_the_token() -> Policy {
    Policy::custom(|attempt| {
        let previous = attempt.previous();
        let is_origin_of = |url: Option<&reqwest::Url>| {
            url.is_some_and(|url| url.origin() == attempt.url().origin())
        };
        if previous.len() > MAX_REDIRECTS {
            attempt.error("too many redirects")
        } else if is_origin_of(previous.last()) && !is_origin_of(previous.first()) {
            attempt.error("another server redirects to itself, and would be sent the token")
        } else {
            attempt.follow()
        }
    })
}

/// Returns whether `HF_HUB_OFFLINE` forbids to use the network.
pub(crate) fn is_offline() -> bool {
    std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| {
        ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
    })
}

/// The token, from the same places as the client's.
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc;

    use hf_hub::HFClient;

    use super::{Hub, Repository, client, guarding_the_token};

    /// Answers each request with the status and the header that `answer` makes of its path, and reports the request.
    fn server(
        answer: impl Fn(&str) -> String + Send + 'static,
    ) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (send, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..read]).to_ascii_lowercase();
                let path = request.split(' ').nth(1).unwrap_or_default();
                let answer = format!(
                    "HTTP/1.1 {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    answer(path)
                );
                let _ = send.send(request);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (address, requests)
    }

    fn redirect(to: &str) -> String {
        format!("302 Found\r\nLocation: {to}")
    }

    #[tokio::test]
    async fn a_server_that_the_hub_redirects_to_is_not_sent_the_token() {
        let (storage, at_storage) = server(|_| redirect("/again"));
        let (hub, at_hub) = server(move |path| match path {
            "/file" => redirect("/renamed"),
            _ => redirect(&format!("{storage}/file")),
        });
        let client = client()
            .no_proxy()
            .redirect(guarding_the_token())
            .build()
            .unwrap();
        let request = client.get(format!("{hub}/file")).bearer_auth("sesame");
        let answer = request.send().await;
        let carries_token = |request: String| request.contains("sesame");
        assert!(at_hub.try_iter().all(carries_token));
        let at_storage: Vec<String> = at_storage.try_iter().collect();
        assert!(!at_storage.is_empty());
        assert!(!at_storage.into_iter().any(carries_token));
        assert!(answer.unwrap_err().is_redirect());
    }

    #[tokio::test]
    async fn a_server_that_the_hub_redirects_to_does_not_say_who_may_read_a_repository() {
        const DENIED: &str = "403 Forbidden";
        for at_hub in [false, true] {
            let (storage, at_storage) = server(move |path| match path {
                "/file?signature=sesame" => redirect("/moved?signature=sesame"),
                _ => DENIED.to_owned(),
            });
            let (endpoint, _requests) = server(move |_| match at_hub {
                true => DENIED.to_owned(),
                false => redirect(&format!("{storage}/file?signature=sesame")),
            });
            let hub = Hub {
                client: HFClient::builder()
                    .client(client().no_proxy().build().unwrap())
                    .endpoint(&endpoint)
                    .build()
                    .unwrap(),
                head: client().build().unwrap(),
                token: None,
            };
            let repository = Repository::parse("somebody/model").unwrap();
            let error = hub.bytes(&repository, "main", "model.bin", 0, 1).await;
            let Err(error) = error else {
                panic!("it was answered");
            };
            let said = error.to_string();
            assert_eq!(said.contains("set HF_TOKEN"), at_hub, "{said}");
            assert_eq!(said.contains("/moved)"), !at_hub, "{said}");
            assert!(!said.contains("sesame"), "{said}");
            let refers = |request: String| request.contains("\r\nreferer:");
            assert!(!at_storage.try_iter().any(refers));
        }
    }
}
