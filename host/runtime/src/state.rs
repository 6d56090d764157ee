//! What the host keeps on disk: folders for its owner alone, files that are there in full or not at all, and names made of
//! content.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

/// Makes a folder that only the host's own user can read or write. `what` it is for, for messages.
///
/// # Errors
/// When it cannot be made, or belongs to somebody else, who could put things into it.
pub(crate) fn private_folder(folder: &Path, what: &str) -> anyhow::Result<()> {
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
    let owner = std::fs::metadata(folder).with_context(denied)?.uid();
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
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
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

/// The SHA-256 of bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
