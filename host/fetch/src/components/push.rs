//! Pushes components to OCI registries, in the layout that `registry.rs` describes. The artifact's configuration lists the imports and
//! exports of the component.

use bytes::Bytes;
use futures::StreamExt as _;
use manifest::{Digest, Reference};
use oci_client::Client;
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::errors::OciErrorCode;
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciImageManifest};
use schemars::JsonSchema;
use serde::Serialize;

use super::credentials::credentials;
use super::registry::{ACCESS_DENIED, FAILED, LAYER, NO_ARTIFACT, UNREACHABLE};
use super::web;
use crate::loopback::is_loopback;
use crate::progress::Progress;

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
    let digest = Digest::of(&wasm);
    let configuration = Configuration {
        created: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        architecture: "wasm",
        os: "wasip2",
        layer_digests: vec![digest.to_string()],
        component: interfaces,
    };
    let wasm = Bytes::from(wasm);
    let layer = ImageLayer::new(wasm.clone(), LAYER.into(), None);
    let configuration = Config::new(
        serde_json::to_vec(&configuration)?,
        CONFIGURATION.into(),
        None,
    );
    let mut manifest = OciImageManifest::build(std::slice::from_ref(&layer), &configuration, None);
    manifest.media_type = Some(OCI_IMAGE_MEDIA_TYPE.into());

    let artifact = reference.oci();
    anyhow::ensure!(
        artifact.digest().is_none(),
        "{reference} is a reference by digest: name a tag instead"
    );
    let client = client(artifact);
    let registry = artifact.resolve_registry();
    let auth = credentials(registry.to_owned()).await?;
    client.store_auth_if_needed(registry, &auth).await;
    let (name, whole) = (reference.to_string(), wasm.len() as u64);
    let pieces: Vec<Bytes> = (0..wasm.len())
        .step_by(PIECE)
        .map(|start| wasm.slice(start..wasm.len().min(start + PIECE)))
        .collect();
    let mut through = 0;
    let counted = futures::stream::iter(pieces).map(move |piece| {
        through += piece.len() as u64;
        progress(&name, through, Some(whole));
        Ok(piece)
    });
    client
        .push_blob_stream(artifact, counted, &digest.to_string(), Some(whole))
        .await
        .map_err(explain)?;
    let described = manifest.config.digest.clone();
    client
        .push_blob(artifact, configuration.data, &described)
        .await
        .map_err(explain)?;
    client
        .push_manifest(artifact, &manifest.into())
        .await
        .map_err(explain)?;
    let pinned = client
        .fetch_manifest_digest(artifact, &auth)
        .await
        .map_err(explain)?;
    Ok(Pushed {
        reference: reference.to_string(),
        pinned: format!(
            "{}{}/{}@{pinned}",
            Reference::SCHEME,
            artifact.registry(),
            artifact.repository()
        ),
        digest: digest.to_string(),
    })
}

/// Bytes that are sent between two reports of progress.
const PIECE: usize = 256 << 10;

/// A client for the registry of a reference.
///
/// It sends credentials to that registry only, but for redirects, which it follows as reqwest does by default and cannot be told not
/// to: if the registry redirects to another server, and that one to itself, that server gets them (see `web::send`).
fn client(reference: &oci_client::Reference) -> Client {
    crate::tls::use_ring();
    let registry = reference.resolve_registry();
    Client::new(ClientConfig {
        protocol: match is_loopback(registry) {
            true => ClientProtocol::HttpsExcept(vec![registry.to_owned()]),
            false => ClientProtocol::Https,
        },
        connect_timeout: Some(web::CONNECT_TIMEOUT),
        read_timeout: Some(web::READ_TIMEOUT),
        user_agent: concat!("whisper-host/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    })
}

/// Adds what to do about a registry's error.
fn explain(error: oci_client::errors::OciDistributionError) -> anyhow::Error {
    use oci_client::errors::OciDistributionError as Error;
    let error = match error {
        Error::RequestError(error) => Error::RequestError(web::shown(error)),
        error => error,
    };
    let has_code = |code: &OciErrorCode| match &error {
        Error::RegistryError { envelope, .. } => envelope.errors.iter().any(|e| e.code == *code),
        _ => false,
    };
    let advice = match &error {
        Error::UnauthorizedError { .. }
        | Error::AuthenticationFailure(_)
        | Error::ServerError {
            code: 401 | 403, ..
        } => ACCESS_DENIED,
        _ if has_code(&OciErrorCode::Unauthorized) || has_code(&OciErrorCode::Denied) => {
            ACCESS_DENIED
        }
        Error::ImageManifestNotFoundError(_) => NO_ARTIFACT,
        _ if has_code(&OciErrorCode::ManifestUnknown) || has_code(&OciErrorCode::NameUnknown) => {
            NO_ARTIFACT
        }
        Error::RequestError(error) if error.is_connect() => UNREACHABLE,
        _ => FAILED,
    };
    anyhow::Error::from(error).context(advice)
}
