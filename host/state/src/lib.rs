//! What the host keeps on disk: folders for its owner alone, files that are there in full or not at all, and names made of
//! content.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

/// Makes a folder that only the host's own user can read or write. `what` it is for, for messages.
///
/// # Errors
/// When it cannot be made, belongs to somebody else, who could put things into it, or is a link to a folder that others may reach,
/// which is hardly meant.
pub fn private_folder(folder: &Path, what: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
    let denied = || {
        format!(
            "cannot prepare {what} {}; choose another --state-dir",
            folder.display()
        )
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(denied)?;
    let metadata = std::fs::metadata(folder).with_context(denied)?;
    anyhow::ensure!(
        !folder.is_symlink() || metadata.mode() & 0o077 == 0,
        "{what} {} is a link to a folder that others may reach; make that one private (chmod 700), or remove the link",
        folder.display()
    );
    let owner = metadata.uid();
    anyhow::ensure!(
        owner == rustix::process::geteuid().as_raw(),
        "{what} {} belongs to another user, who could put things into it; choose another --state-dir",
        folder.display()
    );
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).with_context(denied)
}

/// Writes a file so that after a crash, or a power cut, it is there in full or as it was before.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_durably(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let write = || -> std::io::Result<()> {
        // Opened before anything is done: once the file is in place, as little as possible may fail.
        let opened = std::fs::File::open(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        opened.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// What was not used for so long is of a component, or of a version of the host, that is gone.
const KEPT_UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// A temporary file that is so old is not being written any more: what wrote it was killed.
const UNFINISHED: Duration = Duration::from_secs(3600);

/// Notes that a file or folder is in use, for [`prune`]. If that fails, it may have to be made again some day.
pub fn mark_used(path: &Path) {
    let marked = std::fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = marked {
        tracing::debug!(%error, path = %path.display(), "cannot note the use");
    }
}

/// Removes from a folder what can be made again: entries that were not used for thirty days, then, until the rest has at most
/// `bytes`, those whose use is longest ago; and temporary ones that a killed process left. What was used after `started` stays, and
/// so does whatever is not called as the host calls its own. What cannot be removed costs only space, so a failure is only logged.
pub fn prune(folder: &Path, bytes: u64, started: SystemTime) {
    let now = SystemTime::now();
    let age = |used: SystemTime| now.duration_since(used).unwrap_or_default();
    let modified = |path: &Path| std::fs::symlink_metadata(path)?.modified();
    let mut entries: Vec<(SystemTime, Kind, PathBuf)> = own_entries(folder)
        .into_iter()
        .filter_map(|(kind, path)| Some((modified(&path).ok()?, kind, path)))
        .collect();
    entries.sort();
    let mut kept = 0;
    for (used, kind, path) in entries.into_iter().rev() {
        let goes = match kind {
            Kind::Temporary => age(used) > UNFINISHED,
            Kind::Kept => {
                kept += size(&path);
                used < started && (age(used) > KEPT_UNUSED || kept > bytes)
            }
        };
        if goes && let Err(error) = remove(&path) {
            tracing::warn!(%error, path = %path.display(), "cannot remove what is no longer used");
        }
    }
}

/// What the host has put into one of its folders: nothing else may be removed from it.
pub fn own_entries(folder: &Path) -> Vec<(Kind, PathBuf)> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let kind = Kind::of(entry.file_name().as_encoded_bytes())?;
            Some((kind, entry.path()))
        })
        .collect()
}

/// What the host puts into its folders, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Its name begins with a SHA-256.
    Kept,
    /// What is being written.
    Temporary,
}

impl Kind {
    /// None: it is not the host's.
    fn of(name: &[u8]) -> Option<Self> {
        let temporary: [&[u8]; 2] = [b".tmp", STAGING.as_bytes()];
        if temporary.iter().any(|prefix| name.starts_with(prefix)) {
            return Some(Self::Temporary);
        }
        let (digest, rest) = name.split_at_checked(64)?;
        let is_digest = digest.iter().all(u8::is_ascii_hexdigit);
        (is_digest && matches!(rest.first(), None | Some(b'-' | b'.'))).then_some(Self::Kept)
    }
}

/// What the name of a folder begins with while it is filled.
pub const STAGING: &str = ".new-";

/// Bytes of a file, or of everything in a folder.
fn size(path: &Path) -> u64 {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| size(&entry.path()))
            .sum(),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::symlink_metadata(path)?.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    }
}

/// Bytes with their SHA-256 behind them.
pub fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

/// The bytes that were [`sealed`]; none if these are not what was.
pub fn unsealed(whole: &[u8]) -> Option<&[u8]> {
    let (bytes, digest) = whole.split_last_chunk::<32>()?;
    (Sha256::digest(bytes)[..] == *digest).then_some(bytes)
}

/// The SHA-256 of bytes, in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, SystemTime};

    use super::{KEPT_UNUSED, UNFINISHED, mark_used, private_folder, prune, sha256};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// A name that the host gives to what it keeps.
    fn kept(of: &str) -> String {
        sha256(of.as_bytes())
    }

    /// A folder with entries of ten bytes that were used so long ago. A name that ends in `/` is a folder's.
    fn folder(entries: &[(&str, Duration)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, age) in entries {
            let path = folder.path().join(name);
            if name.ends_with('/') {
                std::fs::create_dir(&path).unwrap();
                std::fs::write(path.join("file"), "ten bytes.").unwrap();
            } else {
                std::fs::write(&path, "ten bytes.").unwrap();
            }
            let file = std::fs::File::open(&path).unwrap();
            file.set_modified(SystemTime::now() - *age).unwrap();
        }
        folder
    }

    fn left(folder: &tempfile::TempDir) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn sorted<const N: usize>(mut names: [String; N]) -> [String; N] {
        names.sort();
        names
    }

    #[test]
    fn what_was_not_used_for_long_is_removed() {
        let old = KEPT_UNUSED + DAY;
        let [gone, used, new] = ["gone", "used", "new"].map(|of| format!("{}.wasm", kept(of)));
        let [gone_folder, used_folder] = ["gone", "used"].map(|of| format!("{}/", kept(of)));
        let folder = folder(&[
            (&gone, old),
            (&used, old),
            (&gone_folder, old),
            (&used_folder, old),
            (&new, DAY),
        ]);
        mark_used(&folder.path().join(&used));
        mark_used(&folder.path().join(&used_folder));
        prune(folder.path(), u64::MAX, SystemTime::now());
        let used_folder = used_folder.trim_end_matches('/').to_owned();
        assert_eq!(left(&folder), sorted([new, used, used_folder]));
    }

    #[test]
    fn of_too_much_the_longest_unused_is_removed() {
        let [a, c, d] = ["a", "c", "d"].map(kept);
        let b = kept("b") + "/";
        let folder = folder(&[(&a, 4 * DAY), (&b, DAY), (&c, 3 * DAY), (&d, 2 * DAY)]);
        prune(folder.path(), 25, SystemTime::now());
        let expected = sorted([kept("b"), d]);
        assert_eq!(left(&folder), expected);
        // This process uses them.
        prune(folder.path(), 0, SystemTime::now() - 3 * DAY);
        assert_eq!(left(&folder), expected);
    }

    #[test]
    fn temporary_files_that_a_killed_process_left_are_removed() {
        let folder = folder(&[
            (".tmpAbC123", 2 * UNFINISHED),
            (".new-AbC123/", 2 * UNFINISHED),
            (".tmpDeF456", Duration::ZERO),
        ]);
        prune(folder.path(), u64::MAX, SystemTime::now() - DAY);
        assert_eq!(left(&folder), [".tmpDeF456"]);
    }

    /// A folder of the state folder that was a link to `/etc` once had everything removed from it.
    #[test]
    fn what_is_not_the_hosts_is_left_alone() {
        let old = 2 * KEPT_UNUSED;
        let others = folder(&[
            ("passwd", old),
            (".hidden", old),
            ("apt/", old),
            (&kept("x")[1..], old),
            (&format!("{}x", kept("x")), old),
            (&"z".repeat(64), old),
        ]);
        let before = left(&others);
        prune(others.path(), 0, SystemTime::now());
        assert_eq!(left(&others), before);
    }

    #[test]
    fn a_link_leads_to_a_private_folder_only() {
        let [target, state] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let link = state.path().join("code");
        std::os::unix::fs::symlink(target.path(), &link).unwrap();
        let mode = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(target.path(), mode).unwrap();
        };
        mode(0o755);
        let refused = private_folder(&link, "the code cache").unwrap_err();
        assert!(refused.to_string().contains("is a link"), "{refused}");
        let unchanged = std::fs::metadata(target.path()).unwrap().permissions();
        assert_eq!(unchanged.mode() & 0o777, 0o755);
        mode(0o700);
        private_folder(&link, "the code cache").unwrap();
    }
}
