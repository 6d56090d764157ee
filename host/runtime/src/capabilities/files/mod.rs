//! Files: those that `files` of a component names, read-only below `/`.
//!
//! The files are copied when the component is loaded, into a folder of the host that is named by their content. So the component
//! sees a snapshot of them, unaffected by links and later changes, and nothing else of the manifest's folder. Copies are kept, and
//! verified when they are reused.

mod open_files;
mod operations;
mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use wasmtime::component::Linker;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

pub use open_files::MAX_OPEN_FILES;

use super::capability::{Access, Capability};
use super::resources::Resources;
use manifest::{self, Component, Limits, Manifest, Pattern};
use open_files::OpenFiles;
use operations::Operations;

/// The files of components.
pub struct Files {
    /// The folder of copies.
    folder: PathBuf,
    /// Permits of components without files, which need none.
    unused: Operations,
}

/// The files of one component.
pub(crate) struct Mount {
    folder: PathBuf,
    files: usize,
    operations: Operations,
}

impl Mount {
    /// Returns the folder of the copies, named by their content.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Files {
    /// Creates the folder of copies, accessible to its owner only.
    ///
    /// # Errors
    /// When it cannot be created.
    fn open(folder: &Path) -> anyhow::Result<Self> {
        state::private_folder(folder, "the folder of copies")?;
        Ok(Self {
            folder: folder.canonicalize()?,
            unused: Operations::default(),
        })
    }

    /// Copies files, given by their guest paths.
    fn copy(&self, files: &BTreeMap<PathBuf, PathBuf>) -> anyhow::Result<PathBuf> {
        let failed = "cannot copy the files";
        let existing = self.folder.join(digest(files, |_, _| Ok(()))?);
        if existing.exists() {
            if is_intact(&existing) {
                state::mark_used(&existing);
                return Ok(existing);
            }
            tracing::warn!(folder = %existing.display(), "copies of files were changed; copying again");
            std::fs::remove_dir_all(&existing).context(failed)?;
        }
        let staging = tempfile::Builder::new()
            .prefix(state::STAGING)
            .tempdir_in(&self.folder)
            .context(failed)?;
        // The files may have changed since: the name is the digest of what is copied.
        let name = digest(files, |guest_path, content| {
            let copy = staging.path().join(guest_path);
            if let Some(folder) = copy.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut copy = std::fs::File::create(copy)?;
            copy.write_all(content)?;
            copy.sync_all()
        })?;
        sync_folders(staging.path(), files.keys()).context(failed)?;
        let folder = self.folder.join(name);
        if let Err(error) = std::fs::rename(staging.path(), &folder)
            // Another host may have copied the same files in the meantime.
            && !is_intact(&folder)
        {
            return Err(error).context(failed);
        }
        std::fs::File::open(&self.folder)
            .and_then(|parent| parent.sync_all())
            .context(failed)?;
        Ok(folder)
    }
}

/// Returns the SHA-256 of files and their guest paths, in hexadecimal. Calls `each` for each file.
fn digest(
    files: &BTreeMap<PathBuf, PathBuf>,
    mut each: impl FnMut(&Path, &[u8]) -> std::io::Result<()>,
) -> anyhow::Result<String> {
    let mut digest = Sha256::new();
    for (guest_path, source) in files {
        let content = std::fs::read(source).and_then(|content| {
            each(guest_path, &content)?;
            Ok(content)
        });
        let content = content.with_context(|| format!("cannot copy {}", source.display()))?;
        for part in [guest_path.as_os_str().as_encoded_bytes(), &content] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    Ok(hex::encode(digest.finalize()))
}

/// Returns whether a folder of copies has the content that its name says.
fn is_intact(folder: &Path) -> bool {
    let found = files_below(folder, Path::new("")).and_then(|files| {
        let files = files.into_iter().map(|file| {
            let path = folder.join(&file);
            (file, path)
        });
        digest(&files.collect(), |_, _| Ok(()))
    });
    found.is_ok_and(|name| folder.file_name() == Some(name.as_ref()))
}

/// Flushes the folders that contain `files` below `root` to the disk.
fn sync_folders<'a>(root: &Path, files: impl Iterator<Item = &'a PathBuf>) -> std::io::Result<()> {
    let folders: BTreeSet<&Path> = files.flat_map(|file| file.ancestors().skip(1)).collect();
    folders
        .into_iter()
        .try_for_each(|folder| std::fs::File::open(root.join(folder))?.sync_all())
}

impl Capability for Files {
    /// Most toolchains import the file system whether or not it is used; without a grant it is empty.
    const OPEN: &'static [&'static str] = &["wasi:filesystem/preopens"];
    const HOW_TO_GRANT: &'static str = "name the files in `files`";
    type Grant = Mount;
    type State = OpenFiles;

    fn link<T: Access<Self>>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
        open_files::link(linker, <T as Access<Self>>::access)
    }

    fn new(resources: &Resources) -> anyhow::Result<Self> {
        Self::open(&resources.files)
    }

    fn is_granted(component: &Component) -> bool {
        !component.files.is_empty()
    }

    fn grant(&self, manifest: &Manifest, component: &Component) -> anyhow::Result<Option<Mount>> {
        if component.files.is_empty() {
            return Ok(None);
        }
        let files = Selection::of(&manifest.folder, component)?.files;
        let folder = self.copy(&files)?;
        Ok(Some(Mount {
            folder,
            files: files.len(),
            operations: Operations::default(),
        }))
    }

    fn describe(grant: &Mount) -> String {
        match grant.files {
            1 => "1 file, read-only".into(),
            files => format!("{files} files, read-only"),
        }
    }

    fn state(&self, grant: Option<&Mount>, _: &Limits) -> OpenFiles {
        let operations = grant.map_or(&self.unused, |mount| &mount.operations);
        OpenFiles::new(operations.clone())
    }

    fn extend(grant: &Mount, wasi: &mut WasiCtxBuilder) -> wasmtime::Result<()> {
        wasi.preopened_dir(&grant.folder, "/", FsPerms::ReadOnly)?;
        Ok(())
    }
}

/// Returns the paths of the files that a component's manifest entry selects.
pub(crate) fn selected_files(
    manifest: &Manifest,
    component: &Component,
) -> anyhow::Result<Vec<PathBuf>> {
    let selection = Selection::of(&manifest.folder, component)?;
    Ok(selection.files.into_values().collect())
}

/// The files that a component's manifest entry selects.
struct Selection<'a> {
    /// The manifest's folder, for messages.
    folder: &'a Path,
    /// The manifest's folder, canonicalized.
    root: PathBuf,
    exclude: &'a [Pattern],
    /// Guest path of each file, relative to `/`, and its path on the host.
    files: BTreeMap<PathBuf, PathBuf>,
}

impl<'a> Selection<'a> {
    fn of(folder: &'a Path, component: &'a Component) -> anyhow::Result<Self> {
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        let mut selection = Self {
            folder,
            root: folder
                .canonicalize()
                .with_context(|| format!("cannot read the folder {}", folder.display()))?,
            exclude: &component.exclude_files,
            files: BTreeMap::new(),
        };
        for entry in &component.files {
            match entry {
                manifest::Files::Pattern(pattern) => selection.add_pattern(pattern)?,
                manifest::Files::Placement(placement) => {
                    let below = placement.destination.strip_prefix("/")?;
                    selection.add_path(&placement.source, below)?;
                }
            }
        }
        Ok(selection)
    }

    /// Adds what matches, at its own path. A folder given by name, not by wildcards, stands for everything in it.
    fn add_pattern(&mut self, pattern: &Pattern) -> anyhow::Result<()> {
        let path = Path::new(pattern.as_str());
        if self.root.join(path).exists() {
            return self.add_path(path, path);
        }
        let matches: Vec<PathBuf> = files_below(&self.root, &self.literal_prefix(path))?
            .into_iter()
            .filter(|file| pattern.matches(file))
            .collect();
        anyhow::ensure!(
            !matches.is_empty(),
            "files: \"{}\" matches no file in {}; correct the pattern, or remove it",
            pattern.as_str(),
            self.folder.display()
        );
        for file in matches {
            self.add(file.clone(), &file)?;
        }
        Ok(())
    }

    /// Adds a file, or everything in a folder, at `guest_path`.
    fn add_path(&mut self, source: &Path, guest_path: &Path) -> anyhow::Result<()> {
        let path = self.root.join(source);
        if path.is_file() {
            return self.add(guest_path.to_path_buf(), source);
        }
        anyhow::ensure!(
            path.is_dir(),
            "files: there is no \"{}\" in {}; correct the path, or remove it",
            source.display(),
            self.folder.display()
        );
        for file in files_below(&self.root, source)? {
            let below = file.strip_prefix(source)?;
            self.add(guest_path.join(below), &file)?;
        }
        Ok(())
    }

    /// Adds one file, unless it is excluded.
    fn add(&mut self, guest_path: PathBuf, source: &Path) -> anyhow::Result<()> {
        if self.exclude.iter().any(|pattern| pattern.matches(source)) {
            return Ok(());
        }
        let path = self
            .root
            .join(source)
            .canonicalize()
            .with_context(|| format!("files: cannot read \"{}\"", source.display()))?;
        anyhow::ensure!(
            path.starts_with(&self.root),
            "files: \"{}\" is a link that leads out of {}; replace it by a copy, or exclude it",
            source.display(),
            self.folder.display()
        );
        anyhow::ensure!(
            path.is_file(),
            "files: \"{}\" is not a regular file; exclude it with `exclude_files`",
            source.display()
        );
        let display = |path: &Path| {
            let relative = path.strip_prefix(&self.root).unwrap_or(path);
            relative.display().to_string()
        };
        if let Some(other) = self.files.insert(guest_path.clone(), path.clone())
            && other != path
        {
            anyhow::bail!(
                "files: both \"{}\" and \"{}\" would be seen at /{}; give one of them another destination",
                display(&other),
                display(&path),
                guest_path.display()
            );
        }
        Ok(())
    }

    /// Returns the folder of all possible matches: the pattern's segments before the first one with a wildcard.
    fn literal_prefix(&self, pattern: &Path) -> PathBuf {
        pattern
            .iter()
            .take_while(|segment| !segment.to_string_lossy().contains(['*', '?', '[']))
            .collect()
    }
}

/// Returns the files in a folder, recursively, sorted and relative to `root`. Links to folders are not followed: they could form a
/// cycle.
fn files_below(root: &Path, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        if !path.is_dir() {
            continue;
        }
        let unreadable = || format!("files: cannot read \"{}\"", folder.display());
        for entry in std::fs::read_dir(&path).with_context(unreadable)? {
            let entry = entry.with_context(unreadable)?;
            let relative = folder.join(entry.file_name());
            match entry.file_type().with_context(unreadable)?.is_dir() {
                true => folders.push(relative),
                false => files.push(relative),
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use super::{Files, Selection};
    use manifest::Component;

    /// Creates a folder with `a/one.txt`, `a/two.md`, `a/b/three.txt` and `top.txt`.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        for name in ["a/one.txt", "a/two.md", "a/b/three.txt", "top.txt"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        folder
    }

    fn select(folder: &Path, fields: &str) -> Result<Vec<String>, String> {
        let component: Component = toml::from_str(&format!("source = \"x.wasm\"\n{fields}"))
            .map_err(|error| error.to_string())?;
        Selection::of(folder, &component)
            .map(|selection| {
                let paths = selection.files.keys();
                paths.map(|path| path.display().to_string()).collect()
            })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn patterns_and_folders_keep_their_paths_and_placements_do_not() {
        let folder = folder();
        let selected = |fields| select(folder.path(), fields).unwrap();
        assert_eq!(selected("files = ['a/*.txt']"), ["a/one.txt"]);
        assert_eq!(
            selected("files = ['**/*.txt']"),
            ["a/b/three.txt", "a/one.txt", "top.txt"]
        );
        assert_eq!(
            selected("files = ['a/b', 'top.txt']"),
            ["a/b/three.txt", "top.txt"]
        );
        assert_eq!(
            selected("files = [{ source = 'a', destination = '/site' }]"),
            ["site/b/three.txt", "site/one.txt", "site/two.md"]
        );
        assert_eq!(
            selected("files = [{ source = 'top.txt', destination = '/index' }]"),
            ["index"]
        );
        assert_eq!(
            selected("files = ['a']\nexclude_files = ['**/*.md', 'a/b/*']"),
            ["a/one.txt"]
        );
    }

    #[test]
    fn missing_files_are_an_error() {
        let folder = folder();
        for fields in [
            "files = ['b/*.txt']",
            "files = ['b']",
            "files = [{ source = 'b', destination = '/' }]",
        ] {
            assert!(select(folder.path(), fields).is_err(), "{fields}");
        }
    }

    #[test]
    fn links_out_of_the_folder_are_refused() {
        let folder = folder();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.txt"), "secret").unwrap();
        let link = |name: &str, to: &Path| {
            std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
        };
        link("a/link.txt", &outside.path().join("secret.txt"));
        link("linked", outside.path());
        link("a/inside.txt", &folder.path().join("top.txt"));
        let select = |fields| select(folder.path(), fields);
        for fields in [
            "files = ['a/*.txt']",
            "files = ['a']",
            "files = ['linked/secret.txt']",
            "files = ['linked']",
            "files = ['linked/*']",
            "files = [{ source = 'linked', destination = '/' }]",
        ] {
            let error = select(fields).unwrap_err();
            assert!(error.contains("leads out"), "{fields}: {error}");
        }
        assert_eq!(
            select("files = ['a/inside.txt']").unwrap(),
            ["a/inside.txt"]
        );
        assert_eq!(
            select("files = ['a/*.txt']\nexclude_files = ['a/link.txt']").unwrap(),
            ["a/inside.txt", "a/one.txt"]
        );
    }

    #[test]
    fn copies_are_named_by_their_content() {
        let (folder, copies) = (folder(), tempfile::tempdir().unwrap());
        let files = Files::open(copies.path()).unwrap();
        let selected = BTreeMap::from([(PathBuf::from("x/y"), folder.path().join("top.txt"))]);
        let first = files.copy(&selected).unwrap();
        assert_eq!(std::fs::read(first.join("x/y")).unwrap(), b"top.txt");
        assert_eq!(files.copy(&selected).unwrap(), first);
        std::fs::write(folder.path().join("top.txt"), "changed").unwrap();
        let second = files.copy(&selected).unwrap();
        assert_ne!(first, second);
        assert_eq!(std::fs::read(first.join("x/y")).unwrap(), b"top.txt");
        assert_eq!(std::fs::read_dir(copies.path()).unwrap().count(), 2);
    }

    #[test]
    fn copies_that_were_changed_are_made_again() {
        let (folder, copies) = (folder(), tempfile::tempdir().unwrap());
        let files = Files::open(copies.path()).unwrap();
        let selected = BTreeMap::from([(PathBuf::from("x/y"), folder.path().join("top.txt"))]);
        let copy = files.copy(&selected).unwrap().join("x/y");
        for change in [
            &(|copy: &Path| std::fs::write(copy, "").unwrap()) as &dyn Fn(&Path),
            &|copy| std::fs::remove_file(copy).unwrap(),
            &|copy| std::fs::write(copy.with_file_name("z"), "more").unwrap(),
        ] {
            change(&copy);
            assert_eq!(files.copy(&selected).unwrap().join("x/y"), copy);
            assert_eq!(std::fs::read(&copy).unwrap(), b"top.txt");
            assert!(!copy.with_file_name("z").exists());
        }
    }
}
