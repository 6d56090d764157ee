//! `--watch`: detects changes of the manifest and of files that it names.
//!
//! The operating system reports events in folders. Whether a file has changed is decided by its modification time, length and inode,
//! so it does not matter how an editor or a compiler writes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use notify_debouncer_mini::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{DebounceEventResult, Debouncer, new_debouncer};
use tokio::sync::mpsc;

/// Debounce time: a compiler writes its output in many pieces.
const QUIET: Duration = Duration::from_millis(200);

/// Modification time, length and inode of a file; `None` if it does not exist.
type Fingerprint = Option<(SystemTime, u64, u64)>;

/// Inode and creation time of a folder. The inode alone may be that of a folder that was removed.
type Identity = (u64, Option<SystemTime>);

/// The watched files, with their fingerprints at the last check.
pub struct Watch {
    debouncer: Debouncer<RecommendedWatcher>,
    events: mpsc::Receiver<()>,
    files: BTreeMap<PathBuf, Fingerprint>,
    /// The watched folders. One that was removed and created again has to be watched again.
    folders: BTreeMap<PathBuf, Identity>,
}

impl Watch {
    /// Creates a watcher that watches nothing yet.
    ///
    /// # Errors
    /// When the operating system refuses to watch, for lack of handles.
    pub fn new() -> anyhow::Result<Self> {
        let (sender, receiver) = mpsc::channel(1);
        let debouncer = new_debouncer(QUIET, move |events: DebounceEventResult| {
            if let Err(error) = events {
                tracing::warn!(%error, "the system reports a problem with watching");
            }
            // If the channel is full, a check is pending anyway.
            let _ = sender.try_send(());
        })
        .context("cannot watch files; start without --watch, and use SIGHUP")?;
        Ok(Self {
            debouncer,
            events: receiver,
            files: BTreeMap::new(),
            folders: BTreeMap::new(),
        })
    }

    /// Watches these files only. Files that were watched before keep their fingerprints.
    pub fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let before = std::mem::take(&mut self.files);
        self.files = files
            .into_iter()
            .map(|file| {
                let known = before.get(&file).copied();
                let fingerprint = known.unwrap_or_else(|| fingerprint(&file));
                (file, fingerprint)
            })
            .collect();
        self.watch_folders();
    }

    /// Watches the folders of the files, and of the symbolic links that lead to them.
    fn watch_folders(&mut self) {
        loop {
            let folders = self.files.keys().flat_map(|file| folders_of(file));
            let wanted: BTreeMap<PathBuf, Identity> = folders.collect();
            let before = std::mem::replace(&mut self.folders, wanted);
            if self.folders == before {
                return;
            }
            for (folder, identity) in &before {
                if self.folders.get(folder) != Some(identity) {
                    // Fails if the folder no longer exists.
                    let _ = self.debouncer.watcher().unwatch(folder);
                }
            }
            for (folder, identity) in &self.folders {
                if before.get(folder) != Some(identity) {
                    watch(&mut self.debouncer, folder);
                }
            }
            // Once more: a folder may have been created before the one above it was watched.
        }
    }

    /// Waits until a file has changed.
    pub async fn changed(&mut self) {
        loop {
            // Before waiting, for changes since the last check.
            self.watch_folders();
            let mut changed = false;
            for (file, seen) in &mut self.files {
                let now = fingerprint(file);
                changed |= *seen != now;
                *seen = now;
            }
            if changed {
                return;
            }
            if self.events.recv().await.is_none() {
                // Not reached: the sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }
}

fn watch(debouncer: &mut Debouncer<RecommendedWatcher>, folder: &Path) {
    let watcher = debouncer.watcher();
    if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
        tracing::warn!(%error, folder = %folder.display(), "cannot watch a folder: changes in it need a SIGHUP");
    }
}

/// How many symbolic links of a path are followed: as many as Linux does.
const MAX_LINKS: usize = 40;

/// The folder of a file, and of each symbolic link in its path.
fn folders_of(file: &Path) -> Vec<(PathBuf, Identity)> {
    let mut path = file.to_path_buf();
    let mut folders = Vec::new();
    for _ in 0..MAX_LINKS {
        let Some((link, resolved)) = first_link(&path) else {
            break;
        };
        folders.extend(folder_of(&link));
        path = resolved;
    }
    folders.extend(folder_of(&path));
    folders
}

/// The first symbolic link in a path, and the path with the link replaced by its target.
fn first_link(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let mut components = path.components();
    let mut link = PathBuf::new();
    while let Some(component) = components.next() {
        link.push(component);
        if let Ok(target) = std::fs::read_link(&link) {
            let folder = link.parent().unwrap_or(Path::new(""));
            let resolved = folder.join(target).components().chain(components).collect();
            return Some((link, resolved));
        }
    }
    None
}

/// The closest existing folder above a file.
fn folder_of(file: &Path) -> Option<(PathBuf, Identity)> {
    use std::os::unix::fs::MetadataExt as _;
    file.ancestors().skip(1).find_map(|folder| {
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        let metadata = std::fs::metadata(folder).ok()?;
        let identity = (metadata.ino(), metadata.created().ok());
        metadata.is_dir().then(|| (folder.to_path_buf(), identity))
    })
}

fn fingerprint(file: &Path) -> Fingerprint {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::Duration;

    use super::Watch;

    #[tokio::test]
    async fn a_file_that_is_written_replaced_or_removed_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&file, "1").unwrap();
        let mut watch = Watch::new().unwrap();
        watch.follow([file.clone()]);
        let quiet = tokio::time::timeout(Duration::from_millis(500), watch.changed()).await;
        assert!(quiet.is_err());

        let mut changes = async |what: &dyn Fn()| {
            what();
            tokio::time::timeout(Duration::from_secs(30), watch.changed())
                .await
                .expect("the change must be detected");
        };
        changes(&|| std::fs::write(&file, "22").unwrap()).await;
        std::fs::write(&other, "33").unwrap();
        changes(&|| std::fs::rename(&other, &file).unwrap()).await;
        changes(&|| std::fs::remove_file(&file).unwrap()).await;
        changes(&|| std::fs::write(&file, "1").unwrap()).await;
        // Its folder, and the one above, are removed and created again.
        let above = folder.path().join("above");
        let deep = above.join("folder/file");
        let create = || {
            std::fs::create_dir_all(deep.parent().unwrap()).unwrap();
            std::fs::write(&deep, "1").unwrap();
        };
        create();
        watch.follow([file.clone(), deep.clone()]);
        for _ in 0..2 {
            for change in [
                &|| std::fs::remove_dir_all(&above).unwrap(),
                &create as &dyn Fn(),
            ] {
                change();
                tokio::time::timeout(Duration::from_secs(30), watch.changed())
                    .await
                    .expect("the change must be detected");
            }
        }
        std::fs::remove_dir_all(&above).unwrap();
        create();
        watch.changed().await;
        std::fs::write(&deep, "22").unwrap();
        tokio::time::timeout(Duration::from_secs(30), watch.changed())
            .await
            .expect("the change must be detected");
        // A link to a link to the file; a link to its folder.
        let (link, target) = (folder.path().join("link"), folder.path().join("c"));
        let (current, releases) = (
            folder.path().join("current"),
            folder.path().join("releases"),
        );
        for release in ["1", "2"] {
            std::fs::create_dir_all(releases.join(release)).unwrap();
            std::fs::write(releases.join(release).join("file"), release).unwrap();
        }
        std::fs::create_dir(folder.path().join("real")).unwrap();
        std::fs::write(folder.path().join("real/file"), "1").unwrap();
        symlink("real/file", &target).unwrap();
        symlink("c", &link).unwrap();
        symlink("releases/1", &current).unwrap();
        watch.follow([link.clone(), current.join("file")]);
        let replace_link = |link: &Path, target: &str| {
            symlink(target, folder.path().join("new")).unwrap();
            std::fs::rename(folder.path().join("new"), link).unwrap();
        };
        for change in [
            &|| std::fs::write(folder.path().join("real/file"), "22").unwrap(),
            &|| std::fs::rename(releases.join("2/file"), folder.path().join("real/file")).unwrap(),
            &|| std::fs::write(releases.join("1/file"), "22").unwrap(),
            &|| {
                std::fs::write(releases.join("2/file"), "333").unwrap();
                replace_link(&current, "releases/2");
            },
            &|| std::fs::write(releases.join("2/file"), "4444").unwrap(),
            &|| replace_link(&target, "releases/1/file"),
            &|| std::fs::write(releases.join("1/file"), "55555").unwrap(),
        ] as [&dyn Fn(); 7]
        {
            change();
            tokio::time::timeout(Duration::from_secs(30), watch.changed())
                .await
                .expect("the change must be detected");
        }
        watch.follow([file.clone(), deep.clone()]);
        // Other files in the same folder are ignored.
        std::fs::write(&other, "4").unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(500), watch.changed()).await;
        assert!(quiet.is_err());
    }
}
