//! Components that lie elsewhere: on a web server or in a registry. They are fetched once, verified by digest and kept.
//!
//! What is kept is named by the SHA-256 of its bytes. What a digest or a version names never changes, so it is not asked for
//! again; a tag may move, so it is asked for each time, and only where the registry cannot be reached the last answer
//! holds, with a warning.

mod credentials;
mod kept;
mod push;
mod registry;
mod web;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use manifest::{Digest, Manifest, Reference, Source};

use crate::progress::Progress;
use kept::Kept;
pub use push::{Interfaces, Pushed, push};

/// Bytes of a component that is fetched or deployed. The interpreters of scripting languages take 10 to 40 MB.
pub const MAX_COMPONENT: u64 = 128 << 20;

/// Checks that bytes begin like a component.
///
/// # Errors
/// When they are a core module, or no WebAssembly.
pub fn check_component(wasm: &[u8]) -> anyhow::Result<()> {
    // The preamble of a component differs from that of a core module in its fifth byte on: layer 1 instead of 0.
    anyhow::ensure!(
        wasm.get(..8) != Some(b"\0asm\x01\0\0\0"),
        "it is a core WebAssembly module, not a component; build it for the target wasm32-wasip2, or wrap it with `wasm-tools component new`"
    );
    anyhow::ensure!(wasm.get(..4) == Some(b"\0asm"), "it is not WebAssembly");
    Ok(())
}

/// Fetches components.
pub struct Sources {
    kept: Kept,
    web: reqwest::Client,
    progress: Box<Progress>,
}

impl Sources {
    /// Keeps what it fetches in the folder `kept`.
    ///
    /// # Errors
    /// When the folder cannot be made, or TLS cannot be set up.
    pub fn new(kept: &Path, progress: Box<Progress>) -> anyhow::Result<Self> {
        Ok(Self {
            kept: Kept::open(kept)?,
            web: web::client()?,
            progress,
        })
    }

    /// The manifest, with every source a file of this machine.
    ///
    /// # Errors
    /// When one cannot be fetched, or is not what its digest says.
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

    /// The file that a source is, on this machine. A path is taken as it is.
    ///
    /// # Errors
    /// When it cannot be fetched, or is not what its digest says.
    pub async fn fetch(&self, source: &Source) -> anyhow::Result<PathBuf> {
        let name = source.to_string();
        let digest = match source {
            Source::Path(path) => return Ok(path.clone()),
            Source::Url { url, digest } => {
                if self.kept.find(digest).is_none() {
                    let (length, bytes) = web::get(&self.web, url).await?;
                    self.keep(&name, digest, length, bytes).await?;
                }
                digest.clone()
            }
            Source::Oci(reference) => self.artifact(reference).await?,
            // What a version names never changes, so not even the registry's own description is asked for again.
            Source::Package(package) => match self.kept.resolved(&name) {
                Some(digest) => digest,
                None => {
                    let reference = registry::reference_of(&self.web, package).await?;
                    let digest = self.artifact(&reference).await?;
                    self.kept.remember(&name, &digest)?;
                    digest
                }
            },
        };
        self.kept
            .find(&digest)
            .with_context(|| format!("{digest} has vanished; try again"))
    }

    /// The digest of an artifact's component, which is kept.
    async fn artifact(&self, reference: &Reference) -> anyhow::Result<Digest> {
        let name = reference.to_string();
        let known = self.kept.resolved(&name);
        if let (Some(digest), false) = (&known, reference.may_move()) {
            return Ok(digest.clone());
        }
        match (self.ask(reference, &name).await, known) {
            (Err(error), Some(digest)) if registry::is_unreachable(&error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot ask the registry for {name}: using what it said last"
                );
                Ok(digest)
            }
            (asked, _) => asked,
        }
    }

    /// The same, as the registry says now.
    async fn ask(&self, reference: &Reference, name: &str) -> anyhow::Result<Digest> {
        let mut artifact = registry::resolve(&self.web, reference).await?;
        let digest = artifact.digest().clone();
        if self.kept.find(&digest).is_none() {
            let (length, bytes) = artifact.bytes().await?;
            self.keep(name, &digest, length, bytes).await?;
        }
        self.kept.remember(name, &digest)?;
        Ok(digest)
    }

    /// Takes the bytes in, and keeps them if they are what the digest says.
    async fn keep(
        &self,
        name: &str,
        digest: &Digest,
        length: Option<u64>,
        mut bytes: impl Stream<Item = anyhow::Result<Bytes>> + Unpin,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        tracing::info!(source = name, "fetching a component");
        let too_large = || {
            anyhow::anyhow!(
                "it is larger than the {} MiB that a component may have",
                MAX_COMPONENT >> 20
            )
        };
        if length.is_some_and(|length| length > MAX_COMPONENT) {
            return Err(too_large());
        }
        let mut whole = Vec::new();
        let (mut since, mut before) = (begun, 0);
        while let Some(piece) = bytes.next().await {
            whole.extend_from_slice(&piece?);
            if whole.len() as u64 - before >= web::PROGRESS {
                (since, before) = (Instant::now(), whole.len() as u64);
            }
            if since.elapsed() >= web::READ_TIMEOUT {
                let within = humantime::format_duration(web::READ_TIMEOUT);
                return Err(std::io::Error::from(std::io::ErrorKind::TimedOut)).with_context(
                    || {
                        format!(
                            "less than {} KiB arrived in {within}; try again",
                            web::PROGRESS >> 10
                        )
                    },
                );
            }
            if whole.len() as u64 > MAX_COMPONENT {
                return Err(too_large());
            }
            (self.progress)(name, whole.len() as u64, length);
        }
        let found = Digest::of(&whole);
        anyhow::ensure!(
            found == *digest,
            "its digest is {found}, not {digest}: it was changed, or the digest in the manifest is another's"
        );
        check_component(&whole)?;
        self.kept.put(digest, &whole)?;
        tracing::info!(
            source = name,
            bytes = whole.len(),
            seconds = begun.elapsed().as_secs_f64(),
            "fetched a component"
        );
        Ok(())
    }
}
