//! What was fetched, on disk: each component under its digest, and for each reference the digest that it led to last.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use manifest::Digest;

pub(super) struct Kept(PathBuf);

impl Kept {
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        state::private_folder(folder, "the folder of fetched components")?;
        let folder = std::path::absolute(folder).context("the working folder is gone")?;
        Ok(Self(folder))
    }

    /// The component of this digest, if it is here. A file that was damaged or changed is not it.
    pub(super) fn find(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.path(digest);
        let found = Digest::of(&std::fs::read(&path).ok()?);
        if found != *digest {
            tracing::warn!(path = %path.display(), "a kept component was changed, and is fetched again");
            return None;
        }
        state::mark_used(&path);
        Some(path)
    }

    pub(super) fn put(&self, digest: &Digest, wasm: &[u8]) -> anyhow::Result<()> {
        state::write_durably(&self.path(digest), wasm)
    }

    /// The component that a reference led to last, if it is here.
    pub(super) fn resolved(&self, reference: &str) -> Option<Digest> {
        let text = std::fs::read_to_string(self.note(reference)).ok()?;
        let digest = text.parse().ok()?;
        state::mark_used(&self.note(reference));
        self.find(&digest).map(|_| digest)
    }

    pub(super) fn remember(&self, reference: &str, digest: &Digest) -> anyhow::Result<()> {
        state::write_durably(&self.note(reference), digest.to_string().as_bytes())
            .context("cannot note where the reference leads")
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.0.join(format!("{}.wasm", digest.hex()))
    }

    fn note(&self, reference: &str) -> PathBuf {
        let name = state::sha256(reference.as_bytes());
        self.0.join(format!("{name}.reference"))
    }
}
