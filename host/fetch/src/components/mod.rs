//! Components from web servers and registries: downloaded once, verified by digest and cached.
//!
//! The content behind a digest or a version never changes, so it is not requested again. A tag may move, so it is resolved each time;
//! only if the registry cannot be reached, its last digest is used, with a warning.

mod cache;
mod component;
mod credentials;
mod push;
mod registry;
mod web;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use manifest::{Digest, Manifest, Reference, Source};

use crate::digest;
use crate::download::{self, Download};
use crate::progress::Progress;
use cache::Cache;
pub use component::{MAX_COMPONENT, read_component};
pub use push::{Interfaces, Pushed, push};
use web::WebFile;

/// Fetches components.
pub struct Sources {
    cache: Cache,
    web: reqwest::Client,
    progress: Box<Progress>,
}

impl Sources {
    /// Fetches into the folder `cache`.
    ///
    /// # Errors
    /// If the folder cannot be created, or TLS cannot be set up.
    pub fn new(cache: &Path, progress: Box<Progress>) -> anyhow::Result<Self> {
        Ok(Self {
            cache: Cache::open(cache)?,
            web: web::client()?,
            progress,
        })
    }

    /// Fetches the components of a manifest, and returns it with their local paths as sources.
    ///
    /// # Errors
    /// If a component cannot be fetched, or has another digest than the manifest says.
    pub async fn localize(&self, mut manifest: Manifest) -> anyhow::Result<Manifest> {
        for (id, component) in &mut manifest.components {
            let source = &component.source;
            if let Source::Path(_) = source {
                continue;
            }
            let path = self
                .fetch(source)
                .await
                .with_context(|| format!("component {id}: cannot fetch {source}"))?;
            component.source = Source::Path(path);
        }
        Ok(manifest)
    }

    /// Fetches a component, and returns its local path. The source may be a local path itself.
    ///
    /// # Errors
    /// If the component cannot be fetched, or has another digest than the source says.
    pub async fn fetch(&self, source: &Source) -> anyhow::Result<PathBuf> {
        let name = source.to_string();
        let digest = match source {
            Source::Path(path) => return Ok(path.clone()),
            Source::Url { url, digest } => {
                if self.cache.find(digest).is_none() {
                    let client = &self.web;
                    let mut file = WebFile { client, url };
                    self.download(&name, digest, &mut file).await?;
                }
                digest.clone()
            }
            Source::Oci(reference) => self.artifact(reference).await?,
            // A version never changes, so not even the metadata of the registry is requested again.
            Source::Package(package) => match self.cache.resolution(&name) {
                Some(digest) => digest,
                None => {
                    let reference = registry::reference_of(&self.web, package).await?;
                    let digest = self.artifact(&reference).await?;
                    self.cache.record_resolution(&name, &digest)?;
                    digest
                }
            },
        };
        self.cache
            .find(&digest)
            .with_context(|| format!("{digest} was removed meanwhile; try again"))
    }

    /// Fetches an artifact's component, and returns its digest.
    async fn artifact(&self, reference: &Reference) -> anyhow::Result<Digest> {
        let name = reference.to_string();
        let known = self.cache.resolution(&name);
        if let (Some(digest), false) = (&known, reference.may_move()) {
            return Ok(digest.clone());
        }
        match (self.resolve(reference, &name).await, known) {
            (Err(error), Some(digest)) if registry::is_unreachable(&error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot resolve {name} at the registry: using its last digest"
                );
                Ok(digest)
            }
            (resolved, _) => resolved,
        }
    }

    /// Fetches what a reference resolves to at the registry.
    async fn resolve(&self, reference: &Reference, name: &str) -> anyhow::Result<Digest> {
        let mut artifact = registry::resolve(&self.web, reference).await?;
        let digest = artifact.digest().clone();
        if self.cache.find(&digest).is_none() {
            self.download(name, &digest, &mut artifact).await?;
        }
        self.cache.record_resolution(name, &digest)?;
        Ok(digest)
    }

    /// Downloads a component into the cache.
    async fn download(
        &self,
        name: &str,
        digest: &Digest,
        source: &mut impl download::Source<Error = anyhow::Error>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        tracing::info!(source = name, "fetching a component");
        let download = Download {
            name,
            path: &self.cache.path(digest),
            digest: &digest::Digest::from(digest),
            size: None,
            limit: Some(MAX_COMPONENT),
            stall_timeout: Some(web::READ_TIMEOUT),
            progress: &*self.progress,
        };
        let bytes = download
            .run(source)
            .await
            .map_err(|error| explain(error, digest))?;
        self.cache.seal(digest);
        tracing::info!(
            source = name,
            bytes,
            seconds = begun.elapsed().as_secs_f64(),
            "fetched a component"
        );
        Ok(())
    }
}

/// The error for a component that was not downloaded.
fn explain(error: download::Error<anyhow::Error>, digest: &Digest) -> anyhow::Error {
    match error {
        download::Error::Source(error) => error,
        // An I/O error, for `registry::is_unreachable`.
        download::Error::Interrupted { cause, .. } => {
            anyhow::Error::from(std::io::Error::other(cause))
                .context("the connection broke off; try again")
        }
        download::Error::TooLarge { limit } => anyhow::anyhow!(
            "it is larger than the {} MiB that a component may have",
            limit >> 20
        ),
        download::Error::WrongDigest { found } => anyhow::anyhow!(
            "its digest is {found}, not {digest}: it was changed, or the digest in the manifest is another's"
        ),
        // Not as an I/O error: the registry has answered.
        error @ download::Error::Write { .. } => anyhow::anyhow!("{error}"),
    }
}
