//! Memory and table limits of an instance.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::current::{Current, lock};
use crate::invocation::{Stop, Target};

/// Limits the total linear memory and tables of all modules of an instance.
pub(super) struct Limiter {
    used: usize,
    /// Size of the growth in progress, in case it fails.
    growing: usize,
    limit: usize,
    table_elements: usize,
    current: Current,
    target: Arc<Target>,
}

/// Limit on the entries of all tables of an instance. They take 8 bytes each.
const MAX_TABLE_ELEMENTS: usize = 1_000_000;

impl Limiter {
    pub(super) fn new(target: &Arc<Target>, current: &Current) -> Self {
        Self {
            used: 0,
            growing: 0,
            limit: usize::try_from(target.limits.memory.as_u64()).unwrap_or(usize::MAX),
            table_elements: 0,
            current: Arc::clone(current),
            target: Arc::clone(target),
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.growing = desired.saturating_sub(current);
        let used = self.used.saturating_add(self.growing);
        if used > self.limit {
            lock(&self.current).stop_at(Stop::Memory);
            return Ok(false);
        }
        self.used = used;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.used -= self.growing.min(self.used);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = self
            .table_elements
            .saturating_add(desired.saturating_sub(current));
        let allowed = elements <= MAX_TABLE_ELEMENTS;
        if allowed {
            self.table_elements = elements;
        }
        Ok(allowed)
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.target
            .telemetry
            .metrics
            .memory
            .record(self.used as f64);
    }
}
