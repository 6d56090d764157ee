//! Components from a web server and a registry on loopback.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fetch::components::Sources;
use manifest::{Digest, Source};
use tempfile::TempDir;

/// A component, for all that a download looks at.
fn component() -> Vec<u8> {
    let content = (0..300_000_u64).map(|i| (i * i / 7) as u8);
    b"\0asm\x0d\0\x01\0"
        .iter()
        .copied()
        .chain(content)
        .collect()
}

/// How a server misbehaves.
#[derive(Clone, Copy, Default)]
struct Manners {
    /// Breaks off an answer to a request without a range after so many bytes.
    breaks_off_after: Option<usize>,
    /// Always sends the whole file.
    ignores_ranges: bool,
}

/// A server of one file, and a cache.
struct Fixture {
    url: String,
    content: Vec<u8>,
    requests: Arc<Mutex<Vec<Option<usize>>>>,
    cache: TempDir,
}

impl Fixture {
    fn new(manners: Manners) -> Self {
        Self::serving(component(), manners)
    }

    fn serving(content: Vec<u8>, manners: Manners) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (served, noted) = (content.clone(), Arc::clone(&requests));
        let url = serve(move |_, request| {
            let offset = offset(request);
            noted.lock().unwrap().push(offset);
            file(&served, offset, manners)
        });
        Self {
            url: format!("http://{url}/file.wasm"),
            content,
            requests,
            cache: tempfile::tempdir().unwrap(),
        }
    }

    async fn fetch(&self) -> Result<PathBuf, String> {
        self.fetch_as(Digest::of(&self.content)).await
    }

    async fn fetch_as(&self, digest: Digest) -> Result<PathBuf, String> {
        let sources = Sources::new(self.cache.path(), Box::new(|_, _, _| {})).unwrap();
        let url = self.url.clone();
        let fetched = sources.fetch(&Source::Url { url, digest }).await;
        fetched.map_err(|error| format!("{error:#}"))
    }

    /// The offsets of the ranges that were requested since the last call. None: a request for the whole file.
    fn requests(&self) -> Vec<Option<usize>> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    fn path(&self, extension: &str) -> PathBuf {
        let name = Digest::of(&self.content).hex();
        self.cache.path().join(name).with_extension(extension)
    }

    /// What an earlier run has left.
    fn leave(&self, partial: &[u8]) {
        std::fs::write(self.path("incomplete"), partial).unwrap();
    }

    /// Names of the files in the cache.
    fn cached(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.cache.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// The component is complete, and nothing else is in the cache.
    fn assert_complete(&self, path: &Path) {
        assert_eq!(path, self.path("wasm"));
        assert_eq!(std::fs::read(path).unwrap(), self.content);
        assert_eq!(self.cached().len(), 1, "{:?}", self.cached());
    }
}

/// Serves over HTTP on loopback, and returns the address. `answer` gets it, and the line and the headers of a request.
fn serve(answer: impl Fn(&str, &str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let own = address.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..read]).to_ascii_lowercase();
            // The client may have enough.
            let _ = stream.write_all(&answer(&own, &request));
        }
    });
    address
}

/// The first byte of the range that a request asks for.
fn offset(request: &str) -> Option<usize> {
    request.lines().find_map(|line| {
        let range = line.strip_prefix("range: bytes=")?;
        range.strip_suffix('-').unwrap().parse().ok()
    })
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// The answer to a request for a file.
fn file(content: &[u8], offset: Option<usize>, manners: Manners) -> Vec<u8> {
    let size = content.len();
    match offset.filter(|_| !manners.ignores_ranges) {
        None => {
            let mut response = response("200 OK", "", content);
            if let Some(bytes) = manners.breaks_off_after {
                response.truncate(response.len() - size + bytes);
            }
            response
        }
        Some(offset) if offset < size => response(
            "206 Partial Content",
            &format!("Content-Range: bytes {offset}-{}/{size}\r\n", size - 1),
            &content[offset..],
        ),
        Some(_) => response(
            "416 Range Not Satisfiable",
            &format!("Content-Range: bytes */{size}\r\n"),
            b"",
        ),
    }
}

#[tokio::test]
async fn a_download_that_breaks_off_is_resumed() {
    let fixture = Fixture::new(Manners {
        breaks_off_after: Some(100_000),
        ..Manners::default()
    });
    let path = fixture.fetch().await.unwrap();
    fixture.assert_complete(&path);
    assert_eq!(fixture.requests(), [None, Some(100_000)]);
}

#[tokio::test]
async fn the_partial_file_of_an_earlier_run_is_resumed() {
    let fixture = Fixture::new(Manners::default());
    fixture.leave(&fixture.content[..1000]);
    let path = fixture.fetch().await.unwrap();
    fixture.assert_complete(&path);
    assert_eq!(fixture.requests(), [Some(1000)]);
}

#[tokio::test]
async fn a_partial_file_that_is_complete_needs_no_request() {
    let fixture = Fixture::new(Manners::default());
    fixture.leave(&fixture.content);
    let path = fixture.fetch().await.unwrap();
    fixture.assert_complete(&path);
    assert_eq!(fixture.requests(), []);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_sends_the_file_from_the_start() {
    let fixture = Fixture::new(Manners {
        ignores_ranges: true,
        ..Manners::default()
    });
    fixture.leave(&fixture.content[..1000]);
    let path = fixture.fetch().await.unwrap();
    fixture.assert_complete(&path);
    assert_eq!(fixture.requests(), [Some(1000)]);
}

#[tokio::test]
async fn a_partial_file_with_other_content_is_discarded() {
    let fixture = Fixture::new(Manners::default());
    let too_long = [&fixture.content[..], b"more"].concat();
    for partial in [&[7; 1000][..], &too_long] {
        fixture.leave(partial);
        let path = fixture.fetch().await.unwrap();
        fixture.assert_complete(&path);
        assert_eq!(fixture.requests(), [Some(partial.len()), None]);
        std::fs::remove_file(path).unwrap();
    }
}

#[tokio::test]
async fn a_file_with_another_digest_is_refused_and_removed() {
    let fixture = Fixture::new(Manners::default());
    let (found, wanted) = (Digest::of(&fixture.content), Digest::of(b"another"));
    let error = fixture.fetch_as(wanted.clone()).await.unwrap_err();
    assert_eq!(
        error,
        format!(
            "its digest is {found}, not {wanted}: it was changed, or the digest in the manifest is another's"
        )
    );
    assert_eq!(fixture.cached(), [""; 0]);
    assert_eq!(fixture.requests(), [None]);
}

#[tokio::test]
async fn a_file_that_is_not_a_component_is_refused_and_removed() {
    let fixture = Fixture::serving(b"#!".to_vec(), Manners::default());
    let error = fixture.fetch().await.unwrap_err();
    assert_eq!(error, "it is not WebAssembly");
    assert_eq!(fixture.cached(), [""; 0]);
}

#[tokio::test]
async fn a_file_that_two_fetch_at_once_is_requested_once() {
    let fixture = Fixture::new(Manners::default());
    let (one, other) = tokio::join!(fixture.fetch(), fixture.fetch());
    fixture.assert_complete(&one.unwrap());
    fixture.assert_complete(&other.unwrap());
    assert_eq!(fixture.requests(), [None]);
}

#[tokio::test]
async fn a_cached_component_is_hashed_again_only_if_it_was_modified() {
    let fixture = Fixture::new(Manners::default());
    let path = fixture.fetch().await.unwrap();
    let metadata = || std::fs::metadata(&path).unwrap();
    let sealed = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    assert_eq!(metadata().modified().unwrap(), sealed);
    assert_eq!(metadata().permissions().mode() & 0o777, 0o400);
    assert_eq!(fixture.requests(), [None]);

    let write = |content: &[u8], modified| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, content).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        file.set_modified(modified).unwrap();
    };
    // The right content, of an earlier version of the host or restored from a backup.
    write(&fixture.content, SystemTime::now());
    fixture.fetch().await.unwrap();
    assert_eq!(metadata().modified().unwrap(), sealed);
    assert_eq!(metadata().permissions().mode() & 0o777, 0o400);
    assert_eq!(fixture.requests(), []);

    write(b"damaged", sealed);
    fixture.fetch().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"damaged");
    assert_eq!(fixture.requests(), []);

    write(b"damaged", SystemTime::now());
    fixture.fetch().await.unwrap();
    fixture.assert_complete(&path);
    assert_eq!(fixture.requests(), [None]);
}

/// Tokens are good for one request each, so the one that resumes needs another.
#[tokio::test]
async fn a_download_from_a_registry_is_resumed_although_its_token_has_expired() {
    let content = component();
    let digest = Digest::of(&content);
    let described = |kind: &str| serde_json::json!({"mediaType": kind, "digest": digest.to_string(), "size": content.len()});
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": described("application/vnd.wasm.config.v0+json"),
        "layers": [described("application/wasm")],
    });
    let (manifest, hex) = (manifest.to_string(), digest.hex());
    let (issued, used) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&requests);
    let address = serve(move |own, request| {
        let path = request.split(' ').nth(1).unwrap();
        if path.starts_with("/token") {
            let token = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return response(
                "200 OK",
                "",
                format!("{{\"token\": \"{token}\"}}").as_bytes(),
            );
        }
        let next = used.load(Ordering::SeqCst) + 1;
        if !request.contains(&format!("\r\nauthorization: bearer {next}\r\n")) {
            let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\"\r\n");
            return response("401 Unauthorized", &challenge, b"");
        }
        used.store(next, Ordering::SeqCst);
        if path.ends_with("/manifests/1") {
            return response("200 OK", "", manifest.as_bytes());
        }
        assert!(path.ends_with(&hex), "{path}");
        let offset = offset(request);
        noted.lock().unwrap().push(offset);
        let breaks_off_after = Some(100_000);
        let manners = Manners {
            breaks_off_after,
            ..Manners::default()
        };
        file(&content, offset, manners)
    });
    let cache = tempfile::tempdir().unwrap();
    let sources = Sources::new(cache.path(), Box::new(|_, _, _| {})).unwrap();
    let reference = format!("oci://{address}/team/it:1").parse().unwrap();
    let path = sources.fetch(&Source::Oci(reference)).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), component());
    assert_eq!(*requests.lock().unwrap(), [None, Some(100_000)]);
}

#[tokio::test]
async fn only_the_registry_itself_names_the_token_server() {
    let token_requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&token_requests);
    let storage = serve(move |own, request| {
        if request.contains(" /token") {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\"\r\n");
        response("401 Unauthorized", &challenge, b"")
    });
    let registry = serve(move |_, _| {
        let location = format!("Location: http://{storage}/storage\r\n");
        response("307 Temporary Redirect", &location, b"")
    });
    let cache = tempfile::tempdir().unwrap();
    let sources = Sources::new(cache.path(), Box::new(|_, _, _| {})).unwrap();
    let reference = format!("oci://{registry}/team/it:1").parse().unwrap();
    let error = sources.fetch(&Source::Oci(reference)).await.unwrap_err();
    assert!(error.to_string().contains("denies access"), "{error:#}");
    assert_eq!(token_requests.load(Ordering::SeqCst), 0);
}
