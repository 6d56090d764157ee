//! The state folder: private folders, durable writes, checksums, and the removal of what is no longer used.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

/// Creates a folder that only the user of the host can read or write. Messages call it `what`.
///
/// # Errors
/// If it cannot be created, belongs to another user, who could write to it, or is a link to a folder that others can reach, which is
/// hardly meant.
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
        "{what} {} is a link to a folder that others can reach; make that folder private (chmod 700), or remove the link",
        folder.display()
    );
    let owner = metadata.uid();
    anyhow::ensure!(
        owner == rustix::process::geteuid().as_raw(),
        "{what} {} belongs to another user, who could write to it; choose another --state-dir",
        folder.display()
    );
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).with_context(denied)
}

/// Writes a file so that after a crash or a power cut it is either complete or as it was before.
///
/// # Errors
/// If the folder cannot be written.
pub fn write_durably(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let write = || -> std::io::Result<()> {
        // Opened first: once the file is in place, as little as possible should fail.
        let opened = std::fs::File::open(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        opened.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// An entry that was not used for this long belongs to a component, or to a version of the host, that is gone.
const KEPT_UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// A temporary file that was not written for this long was left by a process that was killed.
const UNFINISHED: Duration = Duration::from_secs(3600);

/// A partial download that was not written for this long is not resumed any more.
const PARTIAL: Duration = Duration::from_secs(24 * 3600);

/// Marks a file or folder as used now, for [`prune`].
pub fn mark_used(path: &Path) {
    let mark = || {
        let entry = std::fs::File::open(path)?;
        let (times, now) = (std::fs::FileTimes::new(), SystemTime::now());
        entry.set_times(match entry.metadata()?.is_dir() {
            true => times.set_modified(now),
            false => times.set_accessed(now),
        })
    };
    if let Err(error) = mark() {
        tracing::debug!(%error, path = %path.display(), "cannot mark an entry as used");
    }
}

/// The last use of an entry: the access time of a file, whose modification time tells whether it was changed; and the modification
/// time of a folder, because its access time changes when [`prune`] measures it.
fn last_use(metadata: &std::fs::Metadata) -> std::io::Result<SystemTime> {
    match metadata.is_dir() {
        true => metadata.modified(),
        false => metadata.accessed(),
    }
}

/// What [`prune`] has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Number of files and folders.
    pub entries: usize,
    /// Their size in bytes.
    pub bytes: u64,
}

/// Removes entries of a folder that can be recreated: those that were not used for thirty days, then the least recently used until
/// the rest has at most `bytes`; and temporary files and partial downloads that are no longer written.
///
/// Leaves what was used after `started`, and what the host has not written. An entry that cannot be removed only takes space, so it
/// is only logged.
pub fn prune(folder: &Path, bytes: u64, started: SystemTime) -> Pruned {
    let now = SystemTime::now();
    let age = |time: SystemTime| now.duration_since(time).unwrap_or_default();
    let time_of = |kind, path: &Path| {
        let metadata = std::fs::symlink_metadata(path)?;
        match kind {
            Kind::Complete => last_use(&metadata),
            Kind::Partial | Kind::Temporary => metadata.modified(),
        }
    };
    let mut entries: Vec<(SystemTime, Kind, PathBuf)> = own_entries(folder)
        .into_iter()
        .filter_map(|(kind, path)| Some((time_of(kind, &path).ok()?, kind, path)))
        .collect();
    entries.sort();
    let mut kept = 0;
    let mut pruned = Pruned::default();
    for (time, kind, path) in entries.into_iter().rev() {
        let size = size(&path);
        let goes = match kind {
            Kind::Temporary => age(time) > UNFINISHED,
            Kind::Partial => age(time) > PARTIAL,
            Kind::Complete => {
                kept += size;
                time < started && (age(time) > KEPT_UNUSED || kept > bytes)
            }
        };
        if !goes {
            continue;
        }
        match remove(&path) {
            Ok(()) => {
                pruned.entries += 1;
                pruned.bytes += size;
            }
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "cannot remove what is no longer used");
            }
        }
    }
    pruned
}

/// Entries of a folder that the host has written. Others must not be removed.
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

/// Kinds of entries that the host writes, which it tells by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Its name begins with a SHA-256.
    Complete,
    /// A partial download: a SHA-256 and `.incomplete`.
    Partial,
    /// A file or folder that is being written.
    Temporary,
}

impl Kind {
    /// None if the host does not write entries of that name.
    fn of(name: &[u8]) -> Option<Self> {
        let temporary: [&[u8]; 2] = [b".tmp", STAGING.as_bytes()];
        if temporary.iter().any(|prefix| name.starts_with(prefix)) {
            return Some(Self::Temporary);
        }
        let (digest, rest) = name.split_at_checked(64)?;
        let is_digest = digest.iter().all(u8::is_ascii_hexdigit);
        match rest {
            _ if !is_digest => None,
            b".incomplete" => Some(Self::Partial),
            [] | [b'-' | b'.', ..] => Some(Self::Complete),
            _ => None,
        }
    }
}

/// Prefix of the name of a folder that is being filled.
pub const STAGING: &str = ".new-";

/// Bytes of a file, or of all files in a folder.
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

/// Appends the SHA-256 of bytes to them.
pub fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

/// The bytes that were [`sealed`]. None if they were changed.
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

    use super::{
        KEPT_UNUSED, PARTIAL, Pruned, UNFINISHED, mark_used, private_folder, prune, sha256,
    };

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// The name of an entry that the host keeps.
    fn kept(of: &str) -> String {
        sha256(of.as_bytes())
    }

    /// A folder with entries of ten bytes that were used and written so long ago. A name that ends in `/` is a folder's.
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
            let then = SystemTime::now() - *age;
            let times = std::fs::FileTimes::new();
            file.set_times(times.set_accessed(then).set_modified(then))
                .unwrap();
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
    fn what_was_removed_is_counted() {
        let old = KEPT_UNUSED + DAY;
        let folder = folder(&[
            (&kept("a"), old),
            (&(kept("b") + "/"), old),
            (&kept("c"), DAY),
        ]);
        let removed = Pruned {
            entries: 2,
            bytes: 20,
        };
        assert_eq!(prune(folder.path(), u64::MAX, SystemTime::now()), removed);
        assert_eq!(
            prune(folder.path(), u64::MAX, SystemTime::now()),
            Pruned::default()
        );
    }

    #[test]
    fn use_leaves_the_modification_time_of_a_file_alone() {
        let name = kept("a");
        let folder = folder(&[(&name, 2 * KEPT_UNUSED)]);
        let path = folder.path().join(&name);
        let times = || {
            let metadata = std::fs::metadata(&path).unwrap();
            (metadata.accessed().unwrap(), metadata.modified().unwrap())
        };
        let (accessed, modified) = times();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        mark_used(&path);
        assert!(times().0 > accessed + KEPT_UNUSED);
        assert_eq!(times().1, modified);
    }

    #[test]
    fn partial_downloads_are_kept_for_a_day() {
        let [old, new] = ["old", "new"].map(|of| format!("{}.incomplete", kept(of)));
        let folder = folder(&[(&old, 2 * PARTIAL), (&new, PARTIAL / 2)]);
        prune(folder.path(), 0, SystemTime::now());
        assert_eq!(left(&folder), [new]);
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
