//! OCI registries: components as artifacts in the form of the CNCF's TAG Runtime ("Wasm OCI Artifact layout"): one layer of
//! type `application/wasm`, and a configuration that lists what the component imports and exports.

use std::str::FromStr;

use anyhow::Context as _;
use bytes::Bytes;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use futures::{Stream, StreamExt as _};
use http_auth::ChallengeRef;
use oci_client::Client;
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::errors::OciErrorCode;
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use reqwest::header::{ACCEPT, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Progress, web};
use crate::engine::{interfaces, visible};
use crate::http::is_loopback;
use crate::manifest::Digest;

const LAYER: &str = "application/wasm";
const CONFIGURATION: &str = "application/vnd.wasm.config.v0+json";

/// What a registry may say of itself, in bytes, and a token with what belongs to it.
const MAX_METADATA: usize = 64 << 10;
/// Bytes of a manifest: what registries take themselves (OCI Distribution Specification 1.1, "Pushing Manifests").
const MAX_MANIFEST: usize = 4 << 20;

/// How much of what else an artifact has is told: types, and letters of each.
const MAX_LISTED: usize = 5;
const MAX_TYPE: usize = 100;

/// How long a registry may take to say what a reference means.
const RESOLVE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Where an artifact is: `oci://REGISTRY/REPOSITORY:TAG`, or `@sha256:…` in the place of the tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference(oci_client::Reference);

impl Reference {
    /// What a reference begins with, to tell it from a path.
    pub const SCHEME: &'static str = "oci://";

    /// Whether it may mean another artifact tomorrow.
    pub(super) fn may_move(&self) -> bool {
        self.0.digest().is_none()
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(Self::SCHEME).unwrap_or(text);
        let form = |why: &str| {
            format!("\"{text}\" is no reference like \"oci://registry.example/name:1.0.0\": {why}")
        };
        // Without a registry in front, Docker's own is meant elsewhere; here that would be a guess.
        let (registry, _) = rest
            .split_once('/')
            .ok_or_else(|| form("the registry is missing"))?;
        if !registry.contains(['.', ':']) && registry != "localhost" {
            return Err(form("it must begin with the registry's host name"));
        }
        oci_client::Reference::try_from(rest)
            .map(Self)
            .map_err(|error| form(&error.to_string()))
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", Self::SCHEME, self.0)
    }
}

/// A package of a registry, under its name and version: `{ registry, package, version }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Host name, with a port if it has one.
    pub registry: String,
    /// `namespace:name`.
    pub package: String,
    /// An exact version.
    pub version: String,
}

/// What a registry says of itself under `/.well-known/wasm-pkg/registry.json`: in which OCI registry its packages lie, and
/// below which name.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    preferred_protocol: Option<String>,
    oci: Option<OciMetadata>,
    oci_registry: Option<String>,
    oci_namespace_prefix: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OciMetadata {
    registry: Option<String>,
    namespace_prefix: Option<String>,
}

/// As Docker has it, a registry on this machine needs no TLS.
fn scheme_of(registry: &str) -> &'static str {
    match is_loopback(registry) {
        true => "http",
        false => "https",
    }
}

/// The artifact that a package is.
pub(super) async fn reference_of(
    client: &reqwest::Client,
    package: &Package,
) -> anyhow::Result<Reference> {
    let registry = &package.registry;
    let metadata = in_time(metadata(client, registry))
        .await
        .with_context(|| format!("cannot ask {registry} where its packages are"))?;
    if let Some(other) = metadata.preferred_protocol.filter(|name| name != "oci") {
        anyhow::ensure!(
            metadata.oci.is_some() || metadata.oci_registry.is_some(),
            "the registry {registry} offers its packages by the protocol \"{other}\" only, which is not supported: only \"oci\" is"
        );
    }
    let oci = metadata.oci.unwrap_or_default();
    let host = oci.registry.or(metadata.oci_registry);
    let host = host.as_deref().unwrap_or(registry);
    let prefix = oci.namespace_prefix.or(metadata.oci_namespace_prefix);
    let prefix = prefix.unwrap_or_default();
    let path = package.package.replace(':', "/");
    let text = format!("{host}/{prefix}{path}:{}", package.version);
    text.parse().map_err(|why: String| anyhow::anyhow!(why))
}

async fn metadata(client: &reqwest::Client, registry: &str) -> anyhow::Result<Metadata> {
    let scheme = scheme_of(registry);
    let url = format!("{scheme}://{registry}/.well-known/wasm-pkg/registry.json");
    let response = client.get(&url).send().await.map_err(web::shown)?;
    if response.status() == StatusCode::NOT_FOUND {
        return Ok(Metadata::default());
    }
    let text = bounded(successful(response)?, MAX_METADATA).await?;
    serde_json::from_slice(&text).with_context(|| format!("{url} has another form than expected"))
}

/// What a registry says, if it does within [`RESOLVE_TIMEOUT`].
async fn in_time<T>(asking: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(RESOLVE_TIMEOUT, asking)
        .await
        .with_context(|| {
            let within = humantime::format_duration(RESOLVE_TIMEOUT);
            format!("the registry did not say what it has within {within}")
        })?
}

/// The answer, if it is what was asked for. A redirect that was not followed is not.
fn successful(response: Response) -> anyhow::Result<Response> {
    let response = response.error_for_status().map_err(web::shown)?;
    let status = response.status();
    anyhow::ensure!(
        status.is_success(),
        "{} answered {status}, which leads nowhere",
        web::without_secrets(response.url().clone())
    );
    Ok(response)
}

/// The body of an answer, of so many bytes at most.
async fn bounded(response: Response, most: usize) -> anyhow::Result<Vec<u8>> {
    let url = web::without_secrets(response.url().clone());
    let mut body = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece.map_err(web::shown)?);
        anyhow::ensure!(body.len() <= most, "{url} has more than {} KiB", most >> 10);
    }
    Ok(body)
}

/// An artifact that a registry has.
pub(super) struct Artifact {
    repository: Repository,
    layer: OciDescriptor,
    digest: Digest,
}

/// A repository, as it is pulled from (OCI Distribution Specification 1.1, "Pull"). oci-client reads answers of any length.
struct Repository {
    web: reqwest::Client,
    name: String,
    /// `https://REGISTRY/v2/NAME`.
    url: String,
    credentials: RegistryAuth,
    /// By what it lets us in; none until it asks.
    access: Option<Access>,
}

enum Access {
    Basic,
    Bearer(String),
}

/// What a token server answers (Distribution Registry, "Token Authentication Specification").
#[derive(Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

impl Repository {
    /// What is at a path of the repository, whose beginning comes in time.
    async fn get(&mut self, path: &str, accept: &str) -> anyhow::Result<Response> {
        in_time(self.ask(path, accept)).await
    }

    async fn ask(&mut self, path: &str, accept: &str) -> anyhow::Result<Response> {
        let mut response = self.send(path, accept).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.access.is_none() {
            self.access = self.authorize(response.headers()).await?;
            response = self.send(path, accept).await?;
        }
        let advice = match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => NOT_LET_IN,
            StatusCode::NOT_FOUND => NO_ARTIFACT,
            _ => FAILED,
        };
        successful(response).context(advice)
    }

    async fn send(&self, path: &str, accept: &str) -> anyhow::Result<Response> {
        let request = self.web.get(format!("{}/{path}", self.url));
        let request = request.header(ACCEPT, accept);
        let request = match (&self.access, &self.credentials) {
            (Some(Access::Bearer(token)), _) => request.bearer_auth(token),
            (Some(Access::Basic), RegistryAuth::Basic(name, password)) => {
                request.basic_auth(name, Some(password))
            }
            _ => request,
        };
        request.send().await.map_err(|error| {
            let advice = match error.is_connect() {
                true => UNREACHABLE,
                false => FAILED,
            };
            anyhow::Error::from(web::shown(error)).context(advice)
        })
    }

    /// Answers the registry's challenge, if that is of a kind that is known.
    async fn authorize(&self, headers: &HeaderMap) -> anyhow::Result<Option<Access>> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter();
        let texts = texts.filter_map(|text| text.to_str().ok());
        let challenges: Vec<ChallengeRef<'_>> = texts
            .filter_map(|text| http_auth::parse_challenges(text).ok())
            .flatten()
            .collect();
        let of = |scheme: &str| {
            let mut challenges = challenges.iter();
            challenges.find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme))
        };
        let Some(bearer) = of("Bearer") else {
            return Ok(of("Basic").map(|_| Access::Basic));
        };
        let parameter = |name: &str| {
            let found = bearer.params.iter();
            let mut found = found.filter(|(known, _)| known.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.to_unescaped())
        };
        let realm = parameter("realm").context("the registry names no token server")?;
        let realm = Url::parse(&realm).context("the registry's token server has no address")?;
        anyhow::ensure!(
            realm.scheme() == "https" || realm.host_str().is_some_and(is_loopback),
            "the registry's token server {} has no TLS",
            web::without_secrets(realm)
        );
        let mut request = self
            .web
            .get(realm)
            .query(&[("scope", format!("repository:{}:pull", self.name))]);
        if let Some(service) = parameter("service") {
            request = request.query(&[("service", service)]);
        }
        if let RegistryAuth::Basic(name, password) = &self.credentials {
            request = request.basic_auth(name, Some(password));
        }
        let response = request.send().await;
        let response = response.map_err(web::shown).context(UNREACHABLE)?;
        let advice = match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => NOT_LET_IN,
            _ => FAILED,
        };
        let answer = successful(response).context(advice)?;
        let answer = bounded(answer, MAX_METADATA).await?;
        let token: Token =
            serde_json::from_slice(&answer).context("the registry gives no token")?;
        Ok(Some(Access::Bearer(token.token)))
    }
}

/// Asks the registry what a reference means.
pub(super) async fn resolve(
    web: &reqwest::Client,
    reference: &Reference,
) -> anyhow::Result<Artifact> {
    let reference = &reference.0;
    let registry = reference.resolve_registry();
    let mut repository = Repository {
        web: web.clone(),
        name: reference.repository().to_owned(),
        url: format!(
            "{}://{registry}/v2/{}",
            scheme_of(registry),
            reference.repository()
        ),
        credentials: credentials(registry.to_owned()).await?,
        access: None,
    };
    let asking = async {
        let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
        let path = format!("manifests/{wanted}");
        let answer = repository.get(&path, OCI_IMAGE_MEDIA_TYPE).await?;
        let manifest = bounded(answer, MAX_MANIFEST).await?;
        if let Some(digest) = reference.digest() {
            let found = Digest::of(&manifest).to_string();
            anyhow::ensure!(
                found == digest,
                "the registry sent another manifest, {found}"
            );
        }
        serde_json::from_slice::<OciImageManifest>(&manifest)
            .context("it is no component: its manifest has another form than expected")
    };
    let manifest = in_time(asking).await?;
    let mut layers: Vec<OciDescriptor> = manifest.layers;
    let found = layers
        .iter()
        .take(MAX_LISTED)
        .map(|layer| visible(&layer.media_type.chars().take(MAX_TYPE).collect::<String>()))
        .collect::<Vec<_>>()
        .join(", ");
    layers.retain(|layer| layer.media_type == LAYER);
    let (Some(layer), true) = (layers.pop(), layers.is_empty()) else {
        anyhow::bail!(
            "it is no component: it has layers of the types {found}, not one of type {LAYER}; publish components with `whisper-host push`"
        );
    };
    let digest = layer
        .digest
        .parse()
        .map_err(|why: String| anyhow::anyhow!(why))?;
    Ok(Artifact {
        repository,
        layer,
        digest,
    })
}

impl Artifact {
    /// That of the component's bytes.
    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The component's length and bytes.
    pub(super) async fn bytes(
        &mut self,
    ) -> anyhow::Result<(
        Option<u64>,
        impl Stream<Item = anyhow::Result<Bytes>> + Unpin + use<>,
    )> {
        let path = format!("blobs/{}", self.layer.digest);
        let response = self.repository.get(&path, "*/*").await?;
        let bytes = response
            .bytes_stream()
            .map(|piece| piece.map_err(web::shown).context(web::BROKE_OFF));
        Ok((u64::try_from(self.layer.size).ok(), bytes))
    }
}

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

#[derive(Serialize)]
struct Interfaces {
    exports: Vec<String>,
    imports: Vec<String>,
}

/// What was published.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Pushed {
    /// The reference that was asked for.
    pub reference: String,
    /// The reference that will always mean this artifact.
    pub pinned: String,
    /// SHA-256 of the component's bytes.
    pub digest: String,
}

/// Publishes a component.
///
/// # Errors
/// When the bytes are no component, the registry cannot be reached, or does not let us.
pub async fn push(
    reference: &Reference,
    wasm: Vec<u8>,
    progress: Box<Progress>,
) -> anyhow::Result<Pushed> {
    crate::application::check_component(&wasm)?;
    let (imports, exports) = interfaces(&wasm)?;
    let digest = Digest::of(&wasm);
    let configuration = Configuration {
        created: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        architecture: "wasm",
        os: "wasip2",
        layer_digests: vec![digest.to_string()],
        component: Interfaces { exports, imports },
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

    let artifact = &reference.0;
    anyhow::ensure!(
        artifact.digest().is_none(),
        "{reference} names a digest, which the registry gives: name a tag instead"
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

/// Bytes that are sent, and reported, at once.
const PIECE: usize = 256 << 10;

/// A client that publishes at the registry of a reference.
fn client(reference: &oci_client::Reference) -> Client {
    web::use_ring();
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

/// What `docker login` has kept for a registry.
async fn credentials(registry: String) -> anyhow::Result<RegistryAuth> {
    let server = match registry.as_str() {
        // The name that Docker keeps its own registry's credentials under.
        "index.docker.io" | "docker.io" => "https://index.docker.io/v1/".to_owned(),
        _ => registry.clone(),
    };
    // A credential helper is a program that may take its time.
    let found =
        tokio::task::spawn_blocking(move || docker_credential::get_credential(&server)).await?;
    match found {
        Ok(DockerCredential::UsernamePassword(name, password)) => {
            Ok(RegistryAuth::Basic(name, password))
        }
        Ok(DockerCredential::IdentityToken(_)) => anyhow::bail!(
            "Docker's configuration has an identity token for {registry}, which is not supported; use `docker login` with a name and a password or access token"
        ),
        Err(
            CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::ConfigReadError
            | CredentialRetrievalError::NoCredentialConfigured,
        ) => Ok(RegistryAuth::Anonymous),
        Err(error) => Err(error).with_context(|| {
            format!("Docker's configuration has no usable credentials for {registry}")
        }),
    }
}

const NOT_LET_IN: &str = "the registry does not let us in: use `docker login`";
const NO_ARTIFACT: &str = "the registry has no such artifact";
const UNREACHABLE: &str = "the registry cannot be reached";
const FAILED: &str = "the registry failed";

/// A registry's error at publishing, with what to do about it.
fn explain(error: oci_client::errors::OciDistributionError) -> anyhow::Error {
    use oci_client::errors::OciDistributionError as Error;
    let error = match error {
        Error::RequestError(error) => Error::RequestError(web::shown(error)),
        error => error,
    };
    let said = |code: &OciErrorCode| match &error {
        Error::RegistryError { envelope, .. } => envelope.errors.iter().any(|e| e.code == *code),
        _ => false,
    };
    let advice = match &error {
        Error::UnauthorizedError { .. }
        | Error::AuthenticationFailure(_)
        | Error::ServerError {
            code: 401 | 403, ..
        } => NOT_LET_IN,
        _ if said(&OciErrorCode::Unauthorized) || said(&OciErrorCode::Denied) => NOT_LET_IN,
        Error::ImageManifestNotFoundError(_) => NO_ARTIFACT,
        _ if said(&OciErrorCode::ManifestUnknown) || said(&OciErrorCode::NameUnknown) => {
            NO_ARTIFACT
        }
        Error::RequestError(error) if error.is_connect() => UNREACHABLE,
        _ => FAILED,
    };
    anyhow::Error::from(error).context(advice)
}

/// Whether the registry could not be asked, or was not able to answer: another time it may.
pub(super) fn is_unreachable(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<reqwest::Error>() {
        Some(error) => error.status().is_none_or(|status| {
            status.is_server_error()
                || matches!(
                    status,
                    StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                )
        }),
        // A download that broke off, or an answer that did not come in time.
        None => error.is::<std::io::Error>() || error.is::<tokio::time::error::Elapsed>(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Reference, is_loopback, is_unreachable};

    #[test]
    fn references_name_a_registry_a_repository_and_a_tag_or_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, moves) in [
            ("oci://registry.example/name:1.0.0".to_owned(), true),
            ("oci://localhost:5000/a/b:latest".to_owned(), true),
            (format!("oci://registry.example/name@{digest}"), false),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            assert_eq!(reference.may_move(), moves, "{text}");
        }
        for text in [
            "oci://name",
            "oci://library/name:1",
            "oci://registry.example/UPPER:1",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_registry_that_says_nothing_in_time_is_unreachable() {
        let never = tokio::time::timeout(std::time::Duration::ZERO, std::future::pending::<()>());
        let error = anyhow::Error::from(never.await.unwrap_err()).context("asking it");
        assert!(is_unreachable(&error));
        assert!(!is_unreachable(&anyhow::anyhow!("no such artifact")));
    }

    #[test]
    fn registries_on_this_machine_are_known() {
        for registry in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "[::1]:5000",
        ] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in [
            "registry.example",
            "localhost.example:5000",
            "10.0.0.1:5000",
        ] {
            assert!(!is_loopback(registry), "{registry}");
        }
    }
}
