//! Metrics of the file system with the state folder.

use std::path::Path;

use metrics::{describe_gauge, gauge};

/// Gauge: bytes that the host may still write.
const AVAILABLE: &str = "whisper_host_state_filesystem_avail_bytes";
/// Gauge: size in bytes.
const SIZE: &str = "whisper_host_state_filesystem_size_bytes";

/// Records the space of the file system that a folder is on.
pub(super) fn record(folder: &Path) {
    describe_gauge!(
        AVAILABLE,
        "Bytes that the file system with the state folder has left."
    );
    describe_gauge!(
        SIZE,
        "Size of the file system with the state folder, in bytes."
    );
    match rustix::fs::statvfs(folder) {
        Ok(space) => {
            gauge!(AVAILABLE).set((space.f_bavail * space.f_frsize) as f64);
            gauge!(SIZE).set((space.f_blocks * space.f_frsize) as f64);
        }
        Err(error) => tracing::warn!(%error, "cannot read the space of the state folder"),
    }
}
