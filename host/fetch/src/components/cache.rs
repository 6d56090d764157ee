//! The cache of fetched components, by digest, and of resolutions: the digest that each reference had last.
//!
//! A component is verified when it is written. It is then sealed: read-only, with a constant as the time of its modification. A
//! component with another time was changed, or was never sealed, and is verified again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use manifest::Digest;

use crate::digest;

/// Seconds since 1970, as in the Nix store: not 0, which some tools take for no time at all.
const SEALED: Duration = Duration::from_secs(1);

pub(super) struct Cache(PathBuf);

impl Cache {
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        state::private_folder(folder, "the folder of fetched components")?;
        let folder = std::path::absolute(folder).context("the working folder is gone")?;
        Ok(Self(folder))
    }

    /// The file of the component with this digest, if it is here and unchanged.
    pub(super) fn find(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.path(digest);
        let modified = std::fs::metadata(&path).ok()?.modified().ok()?;
        if modified != SystemTime::UNIX_EPOCH + SEALED {
            if !has_digest(&path, digest) {
                tracing::warn!(path = %path.display(), "a cached component was changed: fetching it again");
                return None;
            }
            self.seal(digest);
        }
        state::mark_used(&path);
        Some(path)
    }

    /// Path of the component with this digest.
    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.0.join(format!("{}.wasm", digest.hex()))
    }

    /// Marks a component as verified. If that fails, it is verified again at the next look-up.
    pub(super) fn seal(&self, digest: &Digest) {
        let path = self.path(digest);
        let seal = || {
            let file = std::fs::File::open(&path)?;
            file.set_permissions(std::fs::Permissions::from_mode(0o400))?;
            file.set_modified(SystemTime::UNIX_EPOCH + SEALED)
        };
        if let Err(error) = seal() {
            tracing::debug!(%error, path = %path.display(), "cannot mark a component as verified");
        }
    }

    /// The digest that a reference had last, if its component is here.
    pub(super) fn resolution(&self, reference: &str) -> Option<Digest> {
        let path = self.resolution_path(reference);
        let digest = std::fs::read_to_string(&path).ok()?.parse().ok()?;
        state::mark_used(&path);
        self.find(&digest).map(|_| digest)
    }

    pub(super) fn record_resolution(&self, reference: &str, digest: &Digest) -> anyhow::Result<()> {
        let path = self.resolution_path(reference);
        state::write_durably(&path, digest.to_string().as_bytes())
            .context("cannot record the digest of the reference")
    }

    fn resolution_path(&self, reference: &str) -> PathBuf {
        let name = state::sha256(reference.as_bytes());
        self.0.join(format!("{name}.reference"))
    }
}

fn has_digest(path: &Path, digest: &Digest) -> bool {
    let digest = digest::Digest::from(digest);
    let mut hasher = digest.hasher();
    let read = std::fs::File::open(path).and_then(|mut file| hasher.read(&mut file));
    read.is_ok() && hasher.finish() == digest
}
