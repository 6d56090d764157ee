//! How callers follow a transfer.

/// Called while a file is transferred, with its name, the bytes so far, and their total where that is known.
pub type Progress = dyn Fn(&str, u64, Option<u64>) + Send + Sync;
