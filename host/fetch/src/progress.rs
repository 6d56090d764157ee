//! Progress of transfers.

/// Called while a file is transferred, with its name, the bytes so far, and the size of the file where it is known.
pub type Progress = dyn Fn(&str, u64, Option<u64>) + Send + Sync;
