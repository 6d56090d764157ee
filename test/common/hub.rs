//! A fake Hugging Face hub on loopback, with the API needed to download models: repository info, small files directly, and large
//! ones via a redirect to another server, which supports ranges. It can inject faults, and records its requests.

#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LOCATION, RANGE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};

/// The revision of every repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A running hub. It runs until the process exits.
#[derive(Clone)]
pub struct Hub {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By repository and path.
    files: BTreeMap<(String, String), File>,
    faults: Faults,
    requests: Vec<String>,
}

#[derive(Clone)]
struct File {
    bytes: Bytes,
    /// Whether it is on the other server.
    large: bool,
    digest: String,
}

/// Injected faults.
#[derive(Clone, Default)]
pub struct Faults {
    /// Requires this token.
    pub token: Option<&'static str>,
    /// The other server aborts after this many bytes of a response.
    pub aborts_after: Option<usize>,
    /// The other server changes a byte of this file.
    pub corrupts: Option<&'static str>,
    /// This file is listed, but missing.
    pub lacks: Option<&'static str>,
    /// The other server ignores ranges, and always sends the whole file.
    pub ignores_ranges: bool,
}

type Body = BoxBody<Bytes, std::io::Error>;

impl Hub {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let (send, receive) = std::sync::mpsc::channel();
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let hub = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let store = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let endpoint = format!("http://{}", hub.local_addr().unwrap());
                let elsewhere = format!("http://{}", store.local_addr().unwrap());
                send.send(endpoint).unwrap();
                let state = Arc::clone(&served);
                tokio::join!(
                    serve(hub, move |request| answer(&served, &elsewhere, request)),
                    serve(store, move |request| content(&state, request)),
                );
            });
        });
        Self {
            endpoint: receive.recv().unwrap(),
            state,
        }
    }

    /// Adds a file to a repository. Large files are those that would be in git-lfs.
    pub fn add(&self, repository: &str, path: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let large = [".bin", ".safetensors", ".onnx"]
            .iter()
            .any(|end| path.ends_with(end));
        let digest = if large { sha256(&bytes) } else { git(&bytes) };
        self.state.lock().unwrap().files.insert(
            (repository.to_owned(), path.to_owned()),
            File {
                bytes,
                large,
                digest,
            },
        );
    }

    /// Adds all files of a folder and its `onnx/`.
    pub fn add_folder(&self, repository: &str, folder: &Path) {
        for below in ["", "onnx/"] {
            for entry in std::fs::read_dir(folder.join(below)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    let name = path.file_name().unwrap().to_str().unwrap();
                    let bytes = std::fs::read(&path).unwrap();
                    self.add(repository, &format!("{below}{name}"), bytes);
                }
            }
        }
    }

    pub fn behave(&self, faults: Faults) {
        self.state.lock().unwrap().faults = faults;
    }

    /// The requests since the last call: method, path and range.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

async fn serve(
    listener: tokio::net::TcpListener,
    handler: impl Fn(&Request<Incoming>) -> Response<Body> + Clone + Send + Sync + 'static,
) {
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        let handler = handler.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = handler(&request);
                async { Ok::<_, Infallible>(answer) }
            });
            // A response aborted on purpose is an error here.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(connection), service)
                .await;
        });
    }
}

/// The hub itself.
fn answer(state: &Mutex<State>, elsewhere: &str, request: &Request<Incoming>) -> Response<Body> {
    let mut state = state.lock().unwrap();
    state.note(request);
    if let Some(token) = state.faults.token {
        let sent = request.headers().get(AUTHORIZATION);
        if sent.is_none_or(|sent| sent != &format!("Bearer {token}")) {
            return status(StatusCode::UNAUTHORIZED);
        }
    }
    let path = request.uri().path().trim_start_matches('/');
    if let Some(described) = path.strip_prefix("api/models/") {
        let repository = described
            .strip_suffix("/revision/main")
            .unwrap_or(described);
        let files: Vec<_> = state
            .files
            .keys()
            .filter(|(of, _)| of == repository)
            .map(|(_, path)| serde_json::json!({"rfilename": path}))
            .collect();
        if files.is_empty() {
            return status(StatusCode::NOT_FOUND);
        }
        let info = serde_json::json!({"id": repository, "sha": COMMIT, "siblings": files});
        return Response::new(full(info.to_string().into()));
    }
    let Some((repository, file)) = path.split_once(&format!("/resolve/{COMMIT}/")) else {
        return status(StatusCode::NOT_FOUND);
    };
    match state.file(repository, file) {
        Some(_) if state.faults.lacks == Some(file) => status(StatusCode::NOT_FOUND),
        None => status(StatusCode::NOT_FOUND),
        Some(found) if found.large => Response::builder()
            .status(StatusCode::FOUND)
            .header(LOCATION, format!("{elsewhere}/{repository}/{file}"))
            .header("x-repo-commit", COMMIT)
            .header("x-linked-etag", format!("\"{}\"", found.digest))
            .header("x-linked-size", found.bytes.len())
            .body(full(Bytes::new()))
            .unwrap(),
        Some(found) => Response::builder()
            .header("x-repo-commit", COMMIT)
            .header(ETAG, format!("\"{}\"", found.digest))
            .header(CONTENT_LENGTH, found.bytes.len())
            .body(body_for(request, found.bytes))
            .unwrap(),
    }
}

/// The other server, for large files. It must not receive the token.
fn content(state: &Mutex<State>, request: &Request<Incoming>) -> Response<Body> {
    let mut state = state.lock().unwrap();
    state.note(request);
    assert!(request.headers().get(AUTHORIZATION).is_none());
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let (owner, rest) = path.split_once('/').unwrap();
    let (name, file) = rest.split_once('/').unwrap();
    let Some(found) = state.file(&format!("{owner}/{name}"), file) else {
        return status(StatusCode::NOT_FOUND);
    };
    let mut bytes = found.bytes.to_vec();
    if state.faults.corrupts == Some(file) {
        bytes[0] ^= 1;
    }
    let size = bytes.len();
    let mut answer = Response::builder().header(ETAG, "\"of-the-store-5\"");
    let range = request
        .headers()
        .get(RANGE)
        .filter(|_| !state.faults.ignores_ranges);
    if let Some(range) = range {
        let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
        bytes = bytes[from..=to].to_vec();
        answer = answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header(CONTENT_RANGE, format!("bytes {from}-{to}/{size}"));
    }
    answer = answer.header(CONTENT_LENGTH, bytes.len());
    let body = match state.faults.aborts_after {
        Some(after) if after < bytes.len() => {
            bytes.truncate(after);
            let broken = std::io::Error::other("broken off on purpose");
            let pieces = [Ok(Frame::data(Bytes::from(bytes))), Err(broken)];
            // The connection is closed once the data has been sent.
            let pieces = futures::stream::unfold(pieces.into_iter(), |mut pieces| async {
                let piece = pieces.next()?;
                if piece.is_err() {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Some((piece, pieces))
            });
            BodyExt::boxed(StreamBody::new(
                Box::pin(pieces) as std::pin::Pin<Box<dyn futures::Stream<Item = _> + Send + Sync>>
            ))
        }
        _ => body_for(request, bytes.into()),
    };
    answer.body(body).unwrap()
}

impl State {
    fn note(&mut self, request: &Request<Incoming>) {
        let range = request.headers().get(RANGE);
        let range = range.map(|range| format!(" {}", range.to_str().unwrap()));
        self.requests.push(format!(
            "{} {}{}",
            request.method(),
            request.uri().path(),
            range.unwrap_or_default()
        ));
    }

    fn file(&self, repository: &str, path: &str) -> Option<File> {
        let key = (repository.to_owned(), path.to_owned());
        self.files.get(&key).cloned()
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full("{\"error\":\"no\"}".into()));
    *response.status_mut() = status;
    response
}

fn body_for(request: &Request<Incoming>, bytes: Bytes) -> Body {
    match *request.method() {
        Method::HEAD => full(Bytes::new()),
        _ => full(bytes),
    }
}

fn full(bytes: Bytes) -> Body {
    http_body_util::Full::new(bytes)
        .map_err(|never| match never {})
        .boxed()
}

pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Git's object name of a file's content.
pub fn git(bytes: &[u8]) -> String {
    use std::io::Write as _;
    let mut git = Command::new("git")
        .args(["hash-object", "--stdin", "--no-filters"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    git.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = git.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
