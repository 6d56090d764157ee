//! Session settings.

use std::path::Path;

use ort::environment::Environment;
use ort::ep::CUDA;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::SessionBuilder;

use crate::LoadError;

/// Settings shared by all sessions of a model.
pub(super) struct Settings {
    environment: Environment,
    pub threads: usize,
    pub cuda: bool,
}

impl Settings {
    pub fn new(environment: Environment, threads: usize, cuda: bool) -> Self {
        Self {
            environment,
            threads,
            cuda,
        }
    }

    /// Returns a session builder with these settings, without a graph.
    pub fn builder(&self, threads: usize) -> ort::Result<SessionBuilder> {
        // Threads that spin between windows would take CPU time from audio decoding and the components.
        let mut builder = ort::session::Session::builder(&self.environment)?
            .with_intra_threads(threads)?
            .with_intra_op_spinning(false)?;
        if self.cuda {
            builder =
                builder.with_execution_providers([CUDA::default().build().error_on_failure()])?;
        }
        Ok(builder)
    }
}

/// Returns host memory, or the device's.
pub(super) fn memory(cuda: bool) -> ort::Result<MemoryInfo<'static>> {
    let (device, kind) = if cuda {
        (AllocationDevice::CUDA, MemoryType::Default)
    } else {
        (AllocationDevice::CPU, MemoryType::CPUOutput)
    };
    MemoryInfo::new(device, 0, AllocatorType::Device, kind)
}

/// Converts an ONNX Runtime error to a [`LoadError`] about `file`.
pub(super) fn failed<E: std::fmt::Display>(file: &Path) -> impl Fn(E) -> LoadError {
    move |error| LoadError::Session {
        file: file.to_owned(),
        reason: error.to_string(),
    }
}
