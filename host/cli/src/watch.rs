//! `--watch`: notices that the manifest, or a file that it names, has changed.
//!
//! The operating system tells that something happened in a folder; whether a file is another one now is decided by its time,
//! its length and its inode, so that it does not matter how an editor or a compiler puts it there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use notify_debouncer_mini::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{DebounceEventResult, Debouncer, new_debouncer};
use tokio::sync::mpsc;

/// How long a folder must be quiet: a compiler writes its output in many pieces.
const QUIET: Duration = Duration::from_millis(200);

/// Tells a file from another in its place: time of change, length, inode. None where there is no file.
type Mark = Option<(SystemTime, u64, u64)>;

/// Some files, as they were when last looked at.
pub struct Watch {
    debouncer: Debouncer<RecommendedWatcher>,
    happened: mpsc::Receiver<()>,
    files: BTreeMap<PathBuf, Mark>,
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the operating system refuses to watch, for lack of handles.
    pub fn new() -> anyhow::Result<Self> {
        let (tell, happened) = mpsc::channel(1);
        let debouncer = new_debouncer(QUIET, move |events: DebounceEventResult| {
            if let Err(error) = events {
                tracing::warn!(%error, "the system reports a problem with watching");
            }
            // Full: it will be looked at anyway.
            let _ = tell.try_send(());
        })
        .context("cannot watch files; start without --watch, and use SIGHUP")?;
        Ok(Self {
            debouncer,
            happened,
            files: BTreeMap::new(),
            folders: BTreeSet::new(),
        })
    }

    /// Watches these files and no others. Those that it has watched before keep the mark they had.
    pub fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let before = std::mem::take(&mut self.files);
        self.files = files
            .into_iter()
            .map(|file| {
                let known = before.get(&file).copied();
                let mark = known.unwrap_or_else(|| mark(&file));
                (file, mark)
            })
            .collect();
        let wanted: BTreeSet<PathBuf> = self.files.keys().map(|file| folder_of(file)).collect();
        for gone in self.folders.difference(&wanted) {
            // Fails when the folder is gone itself.
            let _ = self.debouncer.watcher().unwatch(gone);
        }
        self.folders = wanted
            .into_iter()
            .filter(|folder| self.folders.contains(folder) || watch(&mut self.debouncer, folder))
            .collect();
    }

    /// Waits until a file has changed.
    pub async fn changed(&mut self) {
        loop {
            // At once, for what happened since the last look.
            let mut changed = false;
            for (file, seen) in &mut self.files {
                let now = mark(file);
                changed |= *seen != now;
                *seen = now;
            }
            if changed {
                return;
            }
            if self.happened.recv().await.is_none() {
                // The watcher is gone, which it is only together with this.
                std::future::pending::<()>().await;
            }
        }
    }
}

fn watch(debouncer: &mut Debouncer<RecommendedWatcher>, folder: &Path) -> bool {
    let watcher = debouncer.watcher();
    match watcher.watch(folder, RecursiveMode::NonRecursive) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, folder = %folder.display(), "cannot watch a folder: changes in it need a SIGHUP");
            false
        }
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn mark(file: &Path) -> Mark {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

#[cfg(test)]
mod tests {
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
                .expect("it must be noticed");
        };
        changes(&|| std::fs::write(&file, "22").unwrap()).await;
        std::fs::write(&other, "33").unwrap();
        changes(&|| std::fs::rename(&other, &file).unwrap()).await;
        changes(&|| std::fs::remove_file(&file).unwrap()).await;
        changes(&|| std::fs::write(&file, "1").unwrap()).await;
        // Something else in the same folder is no change.
        std::fs::write(&other, "4").unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(500), watch.changed()).await;
        assert!(quiet.is_err());
    }
}
