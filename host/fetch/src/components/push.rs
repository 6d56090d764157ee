//! Pushes components to OCI registries, in the layout that `registry.rs` describes (OCI Distribution Specification 1.1, "Push"). The
//! artifact's configuration lists the imports and exports of the component.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use bytes::Bytes;
use manifest::{Digest, Reference};
use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::registry::{
    ACCESS_DENIED, FAILED, LAYER, MAX_METADATA, Repository, bounded, in_time, successful,
    while_moving,
};
use super::web;
use crate::progress::Progress;
use crate::secrets::without_queries;

const CONFIGURATION: &str = "application/vnd.wasm.config.v0+json";

/// The artifact's configuration.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    /// RFC 3339.
    created: String,
    architecture: &'static str,
    os: &'static str,
    layer_digests: Vec<String>,
    component: Interfaces,
}

/// Names of the interfaces of a component.
#[derive(Debug, Serialize)]
pub struct Interfaces {
    /// Interfaces that it provides.
    pub exports: Vec<String>,
    /// Interfaces that it requires.
    pub imports: Vec<String>,
}

/// A component that was pushed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Pushed {
    /// The reference that it was pushed to.
    pub reference: String,
    /// The reference by digest, which never changes.
    pub pinned: String,
    /// SHA-256 of the component.
    pub digest: String,
}

/// Pushes a component.
///
/// # Errors
/// If the registry cannot be reached, or refuses it.
pub async fn push(
    reference: &Reference,
    wasm: Vec<u8>,
    interfaces: Interfaces,
    progress: Box<Progress>,
) -> anyhow::Result<Pushed> {
    let artifact = reference.oci();
    anyhow::ensure!(
        artifact.digest().is_none(),
        "{reference} is a reference by digest: name a tag instead"
    );
    let digest = Digest::of(&wasm);
    let configuration = Configuration {
        created: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        architecture: "wasm",
        os: "wasip2",
        layer_digests: vec![digest.to_string()],
        component: interfaces,
    };
    let (wasm, configuration) = (
        Bytes::from(wasm),
        Bytes::from(serde_json::to_vec(&configuration)?),
    );
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(CONFIGURATION, &configuration)?)
        .layers([descriptor(LAYER, &wasm)?])
        .build()?;
    let manifest = Bytes::from(serde_json::to_vec(&manifest)?);

    let mut repository = Repository::of(artifact, web::upload_client()?, "pull,push").await?;
    let (name, whole) = (reference.to_string(), wasm.len() as u64);
    let report = move |sent| progress(&name, sent, Some(whole));
    upload(&mut repository, &wasm, Arc::new(report)).await?;
    upload(&mut repository, &configuration, Arc::new(|_| {})).await?;
    let tag = artifact.tag().unwrap_or("latest");
    let url = repository.at(&format!("manifests/{tag}"))?;
    let complete = |request: RequestBuilder| {
        let request = request.header(CONTENT_TYPE, MediaType::ImageManifest.as_ref());
        request.body(manifest.clone())
    };
    accepted(in_time(repository.send(Method::PUT, &url, complete)).await?).await?;
    Ok(Pushed {
        reference: reference.to_string(),
        pinned: format!(
            "{}{}/{}@{}",
            Reference::SCHEME,
            artifact.registry(),
            artifact.repository(),
            Digest::of(&manifest)
        ),
        digest: digest.to_string(),
    })
}

fn descriptor(media_type: &str, content: &[u8]) -> anyhow::Result<Descriptor> {
    let digest: oci_spec::image::Digest = Digest::of(content).to_string().parse()?;
    let size = content.len() as u64;
    Ok(Descriptor::new(MediaType::from(media_type), size, digest))
}

/// Bytes that are sent between two reports of progress. As many must be sent within the time for an answer.
const PIECE: usize = 64 << 10;

/// Uploads a blob, if the repository does not have it. `report` is called with the bytes of it that were sent.
async fn upload(
    repository: &mut Repository,
    blob: &Bytes,
    report: Arc<dyn Fn(u64) + Send + Sync>,
) -> anyhow::Result<()> {
    let digest = Digest::of(blob).to_string();
    let url = repository.at(&format!("blobs/{digest}"))?;
    let known = in_time(repository.send(Method::HEAD, &url, |request| request)).await?;
    if known.status().is_success() {
        report(blob.len() as u64);
        return Ok(());
    }
    let url = repository.at("blobs/uploads/")?;
    let complete = |request: RequestBuilder| request.header(CONTENT_LENGTH, 0);
    let begun = in_time(repository.send(Method::POST, &url, complete)).await?;
    let begun = accepted(begun).await?;
    let mut target = web::location(&begun)?.context("the registry does not say where to upload")?;
    target.query_pairs_mut().append_pair("digest", &digest);

    let pieces = Arc::new(AtomicUsize::new(0));
    let complete = |request: RequestBuilder| {
        request
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, blob.len())
            .body(body(blob.clone(), Arc::clone(&report), Arc::clone(&pieces)))
    };
    let mut before = 0;
    let has_moved = || {
        let now = pieces.load(Ordering::Relaxed);
        std::mem::replace(&mut before, now) != now
    };
    let sent = repository.send(Method::PUT, &target, complete);
    accepted(while_moving(sent, has_moved).await?).await?;
    Ok(())
}

/// A blob as a body, which reports and counts the pieces that are sent.
fn body(blob: Bytes, report: Arc<dyn Fn(u64) + Send + Sync>, count: Arc<AtomicUsize>) -> Body {
    let starts = (0..blob.len()).step_by(PIECE);
    let pieces = starts.map(move |start| {
        let end = blob.len().min(start + PIECE);
        report(end as u64);
        count.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(blob.slice(start..end))
    });
    Body::wrap_stream(futures::stream::iter(pieces))
}

/// The answer, if it is a success. The error has what the registry says, and what to do about it.
async fn accepted(response: Response) -> anyhow::Result<Response> {
    let Err(refused) = response.error_for_status_ref() else {
        return successful(response).context(FAILED);
    };
    let advice = match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ACCESS_DENIED,
        _ => FAILED,
    };
    let error = anyhow::Error::from(web::shown(refused));
    let answer = in_time(bounded(response, MAX_METADATA)).await;
    let error = match answer.ok().and_then(|answer| said(&answer)) {
        Some(said) => error.context(said),
        None => error,
    };
    Err(error.context(advice))
}

/// The errors that a registry answers with (OCI Distribution Specification 1.1, "Error Codes").
#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    code: String,
    #[serde(default)]
    message: String,
}

/// How many characters of an error an answer may add to ours.
const MAX_SAID: usize = 300;

/// The first error of an answer.
fn said(answer: &[u8]) -> Option<String> {
    let body: ErrorBody = serde_json::from_slice(answer).ok()?;
    let ErrorEntry { code, message } = body.errors.into_iter().next()?;
    let printable = format!("{code}: {message}")
        .replace(|character: char| character.is_control(), " ")
        .chars()
        .take(MAX_SAID)
        .collect::<String>();
    Some(without_queries(&printable))
}
