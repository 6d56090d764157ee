//! Requests to OCI registries, and pulling components from them, where they are artifacts in the "Wasm OCI Artifact layout" of the
//! CNCF's TAG Runtime: one layer of type `application/wasm`, and a configuration.

use std::pin::pin;

use anyhow::Context as _;
use futures::StreamExt as _;
use http_auth::ChallengeRef;
use manifest::{Digest, Package, Reference};
use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use reqwest::header::{ACCEPT, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::component::check_component;
use super::credentials::{Credentials, credentials};
use super::web;
use crate::download::{Body, Source};
use crate::loopback::is_loopback;
use crate::secrets::without_secrets;

/// Media type of the component's layer.
pub(super) const LAYER: &str = "application/wasm";

/// Bytes of a registry's metadata, of a token server's answer, and of an error.
pub(super) const MAX_METADATA: usize = 64 << 10;
/// Bytes of a manifest, as many as registries accept (OCI Distribution Specification 1.1, "Pushing Manifests").
const MAX_MANIFEST: usize = 4 << 20;

/// How many layers of other types an error lists, and how many characters of each type.
const MAX_LISTED: usize = 5;
const MAX_TYPE: usize = 100;

/// Time for a registry to resolve a reference, or to answer a request.
const ANSWER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Metadata of a registry, from `/.well-known/wasm-pkg/registry.json`: which OCI registry has its packages, and under which prefix.
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

/// As with Docker, a registry on this machine needs no TLS.
fn scheme_of(registry: &str) -> &'static str {
    match is_loopback(registry) {
        true => "http",
        false => "https",
    }
}

/// The reference of a package's artifact.
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
    let response = web::send(client, || client.get(&url), UNREACHABLE).await?;
    if response.status() == StatusCode::NOT_FOUND {
        return Ok(Metadata::default());
    }
    let text = bounded(successful(response)?, MAX_METADATA).await?;
    serde_json::from_slice(&text).with_context(|| format!("{url} has an unexpected form"))
}

/// Runs requests within [`ANSWER_TIMEOUT`].
pub(super) async fn in_time<T>(
    requests: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    while_moving(requests, || false).await
}

/// Runs requests. Each time that [`ANSWER_TIMEOUT`] is over, asks `has_moved` whether they may go on for as long again.
pub(super) async fn while_moving<T>(
    requests: impl Future<Output = anyhow::Result<T>>,
    mut has_moved: impl FnMut() -> bool,
) -> anyhow::Result<T> {
    let mut requests = pin!(requests);
    loop {
        match tokio::time::timeout(ANSWER_TIMEOUT, &mut requests).await {
            Ok(result) => return result,
            Err(_) if has_moved() => {}
            Err(late) => {
                let within = humantime::format_duration(ANSWER_TIMEOUT);
                return Err(late)
                    .with_context(|| format!("the registry did not answer within {within}"));
            }
        }
    }
}

/// The answer, if it is a success. A redirect without a target is not.
pub(super) fn successful(response: Response) -> anyhow::Result<Response> {
    let response = response.error_for_status().map_err(web::shown)?;
    let status = response.status();
    anyhow::ensure!(
        status.is_success(),
        "{} answered {status} without a target",
        without_secrets(response.url().clone())
    );
    Ok(response)
}

/// The body of an answer, up to `limit` bytes.
pub(super) async fn bounded(response: Response, limit: usize) -> anyhow::Result<Vec<u8>> {
    let url = without_secrets(response.url().clone());
    let mut body = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece.map_err(web::shown)?);
        anyhow::ensure!(
            body.len() <= limit,
            "{url} has more than {} KiB",
            limit >> 10
        );
    }
    Ok(body)
}

/// A component in a registry.
pub(super) struct Artifact {
    repository: Repository,
    layer: Descriptor,
    digest: Digest,
}

/// A repository of a registry (OCI Distribution Specification 1.1).
pub(super) struct Repository {
    web: reqwest::Client,
    name: String,
    /// `https://REGISTRY/v2/NAME`.
    url: String,
    /// What is done there, as tokens name it: `pull` or `pull,push`.
    actions: &'static str,
    credentials: Option<Credentials>,
    /// How the registry authorizes requests. None until it asks for it.
    access: Option<Access>,
}

enum Access {
    Basic,
    Bearer(String),
}

/// The answer of a token server (Distribution Registry, "Token Authentication Specification"). It has the token under one of two
/// names, or under both.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Repository {
    /// The repository of a reference.
    pub(super) async fn of(
        reference: &oci_spec::distribution::Reference,
        web: reqwest::Client,
        actions: &'static str,
    ) -> anyhow::Result<Self> {
        let registry = reference.resolve_registry();
        let name = reference.repository().to_owned();
        Ok(Self {
            web,
            url: format!("{}://{registry}/v2/{name}", scheme_of(registry)),
            name,
            actions,
            credentials: credentials(registry.to_owned()).await?,
            access: None,
        })
    }

    /// The URL of a path of the repository.
    pub(super) fn at(&self, path: &str) -> anyhow::Result<Url> {
        let url = format!("{}/{path}", self.url);
        Url::parse(&url).with_context(|| format!("{url} is not a URL"))
    }

    /// Requests a path of the repository from `offset` on. There may be no such part. The head of the answer must come in time.
    async fn get(&mut self, path: &str, accept: &str, offset: u64) -> anyhow::Result<Response> {
        let url = self.at(path)?;
        let complete =
            |request: RequestBuilder| web::with_range(request.header(ACCEPT, accept), offset);
        let response = in_time(self.send(Method::GET, &url, complete)).await?;
        if web::is_out_of_range(&response, offset) {
            return Ok(response);
        }
        let advice = match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ACCESS_DENIED,
            StatusCode::NOT_FOUND => NO_ARTIFACT,
            _ => FAILED,
        };
        successful(response).context(advice)
    }

    /// Sends a request that `complete` completes. It is authorized if it is to the registry itself, and that asks for it.
    pub(super) async fn send(
        &mut self,
        method: Method,
        url: &Url,
        complete: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<Response> {
        let response = self.send_once(&method, url, &complete).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !self.may_authorize(&response) {
            return Ok(response);
        }
        self.access = self.authorize(response.headers()).await?;
        self.send_once(&method, url, &complete).await
    }

    async fn send_once(
        &self,
        method: &Method,
        url: &Url,
        complete: &impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<Response> {
        let request = || {
            let request = complete(self.web.request(method.clone(), url.clone()));
            match (&self.access, &self.credentials) {
                _ if !self.is_at_registry(url) => request,
                (Some(Access::Bearer(token)), _) => request.bearer_auth(token),
                (Some(Access::Basic), Some(Credentials { name, password })) => {
                    request.basic_auth(name, Some(password))
                }
                _ => request,
            }
        };
        web::send(&self.web, request, UNREACHABLE).await
    }

    fn is_at_registry(&self, url: &Url) -> bool {
        Url::parse(&self.url).is_ok_and(|own| own.origin() == url.origin())
    }

    /// Returns whether to answer a challenge: one of the registry itself, not of a server that it redirects to, which would choose
    /// where the credentials go. A token may have expired since an earlier request; a password does not.
    fn may_authorize(&self, response: &Response) -> bool {
        self.is_at_registry(response.url()) && !matches!(self.access, Some(Access::Basic))
    }

    /// Answers the registry's challenge, if its scheme is Basic or Bearer.
    async fn authorize(&self, headers: &HeaderMap) -> anyhow::Result<Option<Access>> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter();
        let texts = texts.filter_map(|text| text.to_str().ok());
        let challenges: Vec<ChallengeRef<'_>> = texts
            .filter_map(|text| http_auth::parse_challenges(text).ok())
            .flatten()
            .collect();
        let challenge = |scheme: &str| {
            let mut challenges = challenges.iter();
            challenges.find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme))
        };
        let Some(bearer) = challenge("Bearer") else {
            return Ok(challenge("Basic").map(|_| Access::Basic));
        };
        let parameter = |name: &str| {
            let mut parameters = bearer.params.iter();
            let found = parameters.find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        let realm = parameter("realm").context("the registry names no token server")?;
        let realm = Url::parse(&realm).context("the registry's token server has an invalid URL")?;
        anyhow::ensure!(
            realm.scheme() == "https" || realm.host_str().is_some_and(is_loopback),
            "the registry's token server {} has no TLS",
            without_secrets(realm)
        );
        let scope = format!("repository:{}:{}", self.name, self.actions);
        let service = parameter("service");
        let request = || {
            let mut request = self.web.get(realm.clone()).query(&[("scope", &scope)]);
            if let Some(service) = &service {
                request = request.query(&[("service", service)]);
            }
            if let Some(Credentials { name, password }) = &self.credentials {
                request = request.basic_auth(name, Some(password));
            }
            request
        };
        let response = web::send(&self.web, request, UNREACHABLE).await?;
        let advice = match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ACCESS_DENIED,
            _ => FAILED,
        };
        let answer = successful(response).context(advice)?;
        let answer = bounded(answer, MAX_METADATA).await?;
        const NO_TOKEN: &str = "the token server sent no token";
        let answer: Token = serde_json::from_slice(&answer).context(NO_TOKEN)?;
        let token = answer.token.or(answer.access_token).context(NO_TOKEN)?;
        Ok(Some(Access::Bearer(token)))
    }
}

/// Resolves a reference at its registry.
pub(super) async fn resolve(
    web: &reqwest::Client,
    reference: &Reference,
) -> anyhow::Result<Artifact> {
    let reference = reference.oci();
    let mut repository = Repository::of(reference, web.clone(), "pull").await?;
    let requests = async {
        let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
        let path = format!("manifests/{wanted}");
        let answer = repository
            .get(&path, MediaType::ImageManifest.as_ref(), 0)
            .await?;
        let manifest = bounded(answer, MAX_MANIFEST).await?;
        if let Some(digest) = reference.digest() {
            let found = Digest::of(&manifest).to_string();
            anyhow::ensure!(
                found == digest,
                "the registry sent another manifest, {found}"
            );
        }
        serde_json::from_slice::<ImageManifest>(&manifest)
            .context("it is not a component: its manifest has an unexpected form")
    };
    let manifest = in_time(requests).await?;
    let mut layers: Vec<Descriptor> = manifest.layers().clone();
    let found = layers
        .iter()
        .take(MAX_LISTED)
        .map(|layer| {
            let printable = layer
                .media_type()
                .as_ref()
                .chars()
                .filter(char::is_ascii_graphic);
            printable.take(MAX_TYPE).collect::<String>()
        })
        .collect::<Vec<_>>()
        .join(", ");
    layers.retain(|layer| layer.media_type().as_ref() == LAYER);
    let (Some(layer), true) = (layers.pop(), layers.is_empty()) else {
        anyhow::bail!(
            "it is not a component: it has layers of the types {found}, not one of type {LAYER}; publish components with `whisper-host push`"
        );
    };
    let digest = layer
        .digest()
        .as_ref()
        .parse()
        .map_err(|why: String| anyhow::anyhow!(why))?;
    Ok(Artifact {
        repository,
        layer,
        digest,
    })
}

impl Artifact {
    /// The digest of the component.
    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl Source for Artifact {
    type Error = anyhow::Error;

    async fn open(&mut self, offset: u64) -> anyhow::Result<Option<Body>> {
        let path = format!("blobs/{}", self.layer.digest());
        let response = self.repository.get(&path, "*/*", offset).await?;
        if web::is_out_of_range(&response, offset) {
            return Ok(None);
        }
        let body = web::body(response, offset);
        Ok(body.map(|body| Body {
            size: Some(self.layer.size()),
            ..body
        }))
    }

    fn is_transient(error: &anyhow::Error) -> bool {
        web::is_transient(error)
    }

    fn check(head: &[u8]) -> anyhow::Result<()> {
        check_component(head)
    }
}

pub(super) const ACCESS_DENIED: &str = "the registry denies access: use `docker login`";
pub(super) const NO_ARTIFACT: &str = "the registry has no such artifact";
pub(super) const UNREACHABLE: &str = "the registry cannot be reached";
pub(super) const FAILED: &str = "the registry failed";

/// Returns whether the registry could not be reached, or cannot answer now.
pub(super) fn is_unreachable(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<reqwest::Error>() {
        Some(error) => error.status().is_none_or(web::is_temporary),
        // A download that broke off, or an answer that did not come in time.
        None => error.is::<std::io::Error>() || error.is::<tokio::time::error::Elapsed>(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_unreachable;

    #[tokio::test]
    async fn a_registry_that_does_not_answer_in_time_is_unreachable() {
        let never = tokio::time::timeout(std::time::Duration::ZERO, std::future::pending::<()>());
        let error = anyhow::Error::from(never.await.unwrap_err()).context("asking it");
        assert!(is_unreachable(&error));
        assert!(!is_unreachable(&anyhow::anyhow!("no such artifact")));
    }
}
