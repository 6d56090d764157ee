//! Components from a web server and a registry on loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fetch::components::{Interfaces, Pushed, Sources, push};
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
    serve_uploads(move |own, head, _| answer(own, head))
}

/// The same, where `answer` also gets the body.
fn serve_uploads(answer: impl Fn(&str, &str, Vec<u8>) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let own = address.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (head, body) = request(&stream);
            // The client may have enough.
            let _ = stream.write_all(&answer(&own, &head, body));
        }
    });
    address
}

/// The line and the headers of a request, in lower case, and its body.
fn request(stream: &TcpStream) -> (String, Vec<u8>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap() > 0 {}
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (head, body)
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

/// Requests that a server got: what is before the version in their first line, all of their head, and the body.
type Requests = Arc<Mutex<Vec<(String, String, Vec<u8>)>>>;

/// A server like [`serve_uploads`]. `answer` gets its address, a request's method and path, and whether it has a token.
fn recorded(answer: impl Fn(&str, &str, bool) -> Vec<u8> + Send + 'static) -> (String, Requests) {
    let requests = Requests::default();
    let noted = Arc::clone(&requests);
    let address = serve_uploads(move |own, head, body| {
        let (request, _) = head.split_once(" http/1.1").unwrap();
        let answer = answer(own, request, head.contains("\r\nauthorization: bearer "));
        let mut noted = noted.lock().unwrap();
        noted.push((request.to_owned(), head.to_owned(), body));
        answer
    });
    (address, requests)
}

/// The bodies of requests that begin like this.
fn bodies(requests: &Requests, request: &str) -> Vec<Vec<u8>> {
    let requests = requests.lock().unwrap();
    let found = requests
        .iter()
        .filter(|(line, ..)| line.starts_with(request));
    found.map(|(_, _, body)| body.clone()).collect()
}

fn asking_for_a_token(realm: &str) -> Vec<u8> {
    let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"it\"\r\n");
    response("401 Unauthorized", &challenge, b"")
}

fn pointing(status: &str, to: &str) -> Vec<u8> {
    response(status, &format!("Location: {to}\r\n"), b"")
}

async fn pushed(registry: &str) -> Result<Pushed, String> {
    let reference = format!("oci://{registry}/team/it:1").parse().unwrap();
    let interfaces = Interfaces {
        exports: vec!["wasi:http/incoming-handler@0.2.12".to_owned()],
        imports: Vec::new(),
    };
    let reported = Arc::new(Mutex::new(None));
    let latest = Arc::clone(&reported);
    let progress = move |_: &str, sent, whole| *latest.lock().unwrap() = Some((sent, whole));
    let pushed = push(&reference, component(), interfaces, Box::new(progress)).await;
    if pushed.is_ok() {
        let whole = component().len() as u64;
        assert_eq!(*reported.lock().unwrap(), Some((whole, Some(whole))));
    }
    pushed.map_err(|error| format!("{error:#}"))
}

#[tokio::test]
async fn a_component_is_pushed_with_a_token_and_only_once() {
    let tokens = [
        "{\"token\": \"sesame\"}",
        "{\"access_token\": \"sesame\"}",
        "{\"token\": \"sesame\", \"access_token\": \"sesame\"}",
    ];
    for (is_relative, token) in [true, false, true].into_iter().zip(tokens) {
        let digest = Digest::of(&component());
        let (uploaded, hex) = (AtomicUsize::new(0), digest.hex());
        let (registry, requests) = recorded(move |own, request, has_token| match request {
            "get /token?scope=repository%3ateam%2fit%3apull%2cpush&service=it" => {
                response("200 OK", "", token.as_bytes())
            }
            _ if !has_token => asking_for_a_token(&format!("http://{own}/token")),
            "post /v2/team/it/blobs/uploads/" => {
                let base = if is_relative {
                    String::new()
                } else {
                    format!("http://{own}")
                };
                pointing("202 Accepted", &format!("{base}/upload?state=a%2Fb"))
            }
            _ if request.starts_with("put /upload?state=a%2fb&digest=sha256%3a") => {
                uploaded.fetch_add(1, Ordering::SeqCst);
                response("201 Created", "", b"")
            }
            "put /v2/team/it/manifests/1" => response("201 Created", "", b""),
            // The layer is the first that is uploaded.
            _ if request.ends_with(&hex) && uploaded.load(Ordering::SeqCst) > 0 => {
                response("200 OK", "", b"")
            }
            _ => response("404 Not Found", "", b""),
        });
        for _ in 0..2 {
            let pushed = pushed(&registry).await.unwrap();
            assert_eq!(pushed.digest, digest.to_string());
            let manifest = bodies(&requests, "put /v2/team/it/manifests/1")
                .pop()
                .unwrap();
            let pinned = format!("oci://{registry}/team/it@{}", Digest::of(&manifest));
            assert_eq!(pushed.pinned, pinned);
            let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
            assert_eq!(manifest["layers"][0]["digest"], pushed.digest);
            let configuration = bodies(&requests, "put /upload").pop().unwrap();
            let described = Digest::of(&configuration).to_string();
            assert_eq!(manifest["config"]["digest"], described);
        }
        let layers = bodies(
            &requests,
            &format!("put /upload?state=a%2fb&digest=sha256%3a{}", digest.hex()),
        );
        assert_eq!(layers, [component()]);
    }
}

#[tokio::test]
async fn a_token_server_without_tls_is_not_asked() {
    let (registry, requests) = recorded(|_, _, _| asking_for_a_token("http://token.example/"));
    let error = pushed(&registry).await.unwrap_err();
    assert!(
        error.contains("token server http://token.example/ has no TLS"),
        "{error}"
    );
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 1);
    assert!(!requests[0].1.contains("\r\nauthorization:"));
}

#[tokio::test]
async fn where_a_registry_redirects_to_is_sent_content_and_no_credentials() {
    let (storage, at_storage) = recorded(|own, request, _| match request {
        _ if request.starts_with("get /token") => {
            pointing("302 Found", &format!("http://{own}/again"))
        }
        "get /again" => response("200 OK", "", b"{\"token\": \"sesame\"}"),
        "post /uploads/" => pointing("307 Temporary Redirect", &format!("http://{own}/begin")),
        "post /begin" => pointing("202 Accepted", "/upload"),
        _ if request.starts_with("put /upload?") => pointing("308 Permanent Redirect", "/uploaded"),
        _ => response("201 Created", "", b""),
    });
    let (registry, at_registry) = recorded(move |own, request, has_token| match request {
        _ if request.starts_with("get /token") => {
            pointing("302 Found", &format!("http://{storage}/token"))
        }
        _ if !has_token => asking_for_a_token(&format!("http://tester:sesame@{own}/token")),
        _ if request.starts_with("head ") => response("404 Not Found", "", b""),
        _ if request.starts_with("post ") => pointing(
            "307 Temporary Redirect",
            &format!("http://{storage}/uploads/"),
        ),
        _ => response("201 Created", "", b""),
    });
    pushed(&registry).await.unwrap();
    let heads = |requests: &Requests| -> Vec<String> {
        let requests = requests.lock().unwrap();
        requests.iter().map(|(_, head, _)| head.clone()).collect()
    };
    let shown = heads(&at_registry).concat();
    assert!(shown.contains("\r\nauthorization: basic "), "{shown}");
    assert!(
        shown.contains("\r\nauthorization: bearer sesame\r\n"),
        "{shown}"
    );
    let shown = heads(&at_storage).concat();
    assert!(!shown.contains("\r\nauthorization:"), "{shown}");
    assert!(!shown.contains("\r\nreferer:"), "{shown}");
    assert_eq!(bodies(&at_storage, "put /uploaded")[0], component());
}

#[tokio::test]
async fn an_upload_is_not_redirected_as_another_request() {
    let (registry, requests) = recorded(|_, request, _| match request.split_once(' ').unwrap().0 {
        "head" => response("404 Not Found", "", b""),
        _ => pointing("303 See Other", "/elsewhere"),
    });
    let error = pushed(&registry).await.unwrap_err();
    assert!(
        error.contains("the server redirects POST with 303 See Other"),
        "{error}"
    );
    assert_eq!(bodies(&requests, "get ").len(), 0);
}

#[tokio::test]
async fn what_a_registry_says_of_an_upload_is_shown_without_secrets() {
    const SIGNED: &str = "/upload?X-Amz-Signature=sesame";
    let (registry, _) = recorded(|own, request, _| match request.split_once(' ').unwrap().0 {
        "head" => response("404 Not Found", "", b""),
        "post" => pointing("202 Accepted", SIGNED),
        _ => {
            let message = format!("http://{own}{SIGNED} failed");
            let said = serde_json::json!({"errors": [{"code": "UNKNOWN", "message": message}]});
            let location = format!("Location: {SIGNED}\r\n");
            response(
                "500 Internal Server Error",
                &location,
                said.to_string().as_bytes(),
            )
        }
    });
    let error = pushed(&registry).await.unwrap_err();
    let url = format!("http://{registry}/upload");
    assert_eq!(
        error,
        format!(
            "the registry failed: UNKNOWN: {url} failed: HTTP status server error (500 Internal Server Error) for url ({url})"
        )
    );
}
