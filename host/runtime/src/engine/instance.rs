//! What one instance of a component has of its own: its WASI context, its limits, and its share of each capability.

use std::sync::{Arc, Mutex};

use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::control::{Control, Stop};
use super::output::GuestOutput;
use super::{Engine, TICK};
use crate::capabilities::States;
use crate::engine::component::Settings;

/// Resources (streams, requests, headers, …) that one instance may hold at once. wasmtime's default, a million, would
/// let a leaking component hold a gigabyte of the host's memory.
const MAX_RESOURCES: usize = 10_000;

/// The request that an instance is serving, shared with its worker.
pub(super) type Current = Arc<Mutex<Option<Arc<Control>>>>;

/// The data of a wasmtime store.
pub(crate) struct InstanceState {
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    pub(crate) states: States,
    limiter: Limiter,
}

impl InstanceState {
    /// A store for a fresh instance of a component.
    pub(super) fn store(engine: &Engine, settings: &Settings, current: &Current) -> Store<Self> {
        let mut wasi = WasiCtxBuilder::new();
        // Nothing of the host's is inherited; sockets stay closed: outbound requests go through wasi:http only.
        wasi.stdout(GuestOutput::stdout(&settings.id, current))
            .stderr(GuestOutput::stderr(&settings.id, current))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        for (name, value) in &settings.environment {
            wasi.env(name, value);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let state = Self {
            table,
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            states: engine
                .capabilities
                .states(&settings.grants, &settings.limits),
            limiter: Limiter {
                used: 0,
                limit: usize::try_from(settings.limits.memory.as_u64()).unwrap_or(usize::MAX),
                current: Arc::clone(current),
            },
        };
        let mut store = Store::new(&engine.wasmtime, state);
        store.limiter(|state| &mut state.limiter);
        limit_cpu(&mut store, settings, current);
        store
    }
}

/// At every tick that finds the component computing, it yields its thread, and is charged for the tick.
fn limit_cpu(store: &mut Store<InstanceState>, settings: &Settings, current: &Current) {
    let budget = (settings.limits.cpu.as_millis() / TICK.as_millis()).max(1);
    let current = Arc::clone(current);
    let mut spent = 0;
    let mut served: Option<uuid::Uuid> = None;
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        let control = lock(&current).clone();
        let request = control.as_ref().map(|c| c.request_id);
        if request != served {
            served = request;
            spent = 0;
        }
        spent += 1;
        if spent > budget {
            if let Some(control) = control {
                control.note(Stop::Cpu);
            }
            return Ok(UpdateDeadline::Interrupt);
        }
        Ok(UpdateDeadline::YieldCustom(
            1,
            Box::pin(tokio::task::yield_now()),
        ))
    });
}

pub(super) fn lock(current: &Current) -> std::sync::MutexGuard<'_, Option<Arc<Control>>> {
    // The lock is held for a clone or a store only: nothing in there panics, so a poisoned value is still whole.
    current
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Bounds the linear memory of all modules of an instance together.
struct Limiter {
    used: usize,
    limit: usize,
    current: Current,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            if let Some(control) = lock(&self.current).as_ref() {
                control.note(Stop::Memory);
            }
            return Ok(false);
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        /// Entries of one table. A table of this size takes 8 MB of the host's memory.
        const MAX_TABLE_ELEMENTS: usize = 1_000_000;
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }
}

impl WasiView for InstanceState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for InstanceState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.states.outbound_http,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}
