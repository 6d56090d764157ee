//! What one instance of a component has of its own: its WASI context, its limits, and its share of each capability.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::Engine;
use super::control::{Control, Reporter, Stop};
use super::figures::Observed;
use super::output::GuestOutput;
use crate::capabilities::States;
use crate::engine::component::Settings;

/// Resources (streams, requests, headers, …) that one instance may hold at once. wasmtime's default, a million, would
/// let a leaking component hold gigabytes of the host's memory; with this one and the next, it is 128 MiB.
const MAX_RESOURCES: usize = 2_000;

/// Size of the headers that one instance holds in one `fields` resource, in memory.
const MAX_FIELDS_SIZE: usize = 64 << 10;

/// Random bytes that one call gives. Making more at once would keep the thread from others.
const MAX_RANDOM: u64 = 64 << 10;

/// Bytes that one call hands from an instance to the host, copied before any other limit is looked at. wasmtime's default, 128 MiB,
/// would keep the thread from others.
const MAX_CALL_SIZE: usize = 4 << 20;

/// What an instance is doing, shared with its worker.
pub(super) type Current = Arc<Mutex<Serving>>;

/// What an instance is doing.
#[derive(Default)]
pub(super) struct Serving {
    /// The request it serves; none while it starts, and while it is idle.
    pub(super) control: Option<Arc<Control>>,
    /// For the request that it serves, or served last.
    pub(super) reporter: Option<Arc<Reporter>>,
    /// The limit that it ran into, while it started.
    pub(super) failed_to_start: Option<Stop>,
    /// It has handed its thread back at a tick, and would go on computing.
    yielding: bool,
    /// The CPU time that its thread had used when the instance got it back after a tick. None until then, and where it has waited
    /// since: asking for the time at every start and after every wait would cost each request a call to the system.
    pub(super) computing_since: Option<Duration>,
}

impl Serving {
    fn note(&mut self, stop: Stop) {
        match &self.control {
            Some(control) => control.note(stop),
            None => self.failed_to_start = Some(stop),
        }
    }

    /// The instance does not run at the moment.
    pub(super) fn suspended(&mut self) {
        if !std::mem::take(&mut self.yielding) {
            self.computing_since = None;
        }
    }
}

/// The data of a wasmtime store.
pub(crate) struct InstanceState {
    /// Before the table: requests are called off when it is dropped, and by then none may begin.
    pub(crate) states: States,
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    limiter: Limiter,
}

impl InstanceState {
    /// A store for a fresh instance of a component.
    pub(super) fn store(
        engine: &Engine,
        settings: &Arc<Settings>,
        current: &Current,
    ) -> wasmtime::Result<Store<Self>> {
        let mut wasi = WasiCtxBuilder::new();
        let [stdout, stderr] = GuestOutput::both(settings, current);
        // Nothing of the host's is inherited; sockets stay closed: outbound requests go through wasi:http only.
        wasi.stdout(stdout)
            .stderr(stderr)
            .max_random_size(MAX_RANDOM)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        for (name, value) in &settings.environment {
            wasi.env(name, value);
        }
        settings.grants.extend(&mut wasi)?;
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(MAX_FIELDS_SIZE);
        let state = Self {
            table,
            wasi: wasi.build(),
            http,
            states: engine
                .capabilities
                .states(&settings.grants, &settings.limits),
            limiter: Limiter {
                used: 0,
                growing: 0,
                table_elements: 0,
                limit: usize::try_from(settings.limits.memory.as_u64()).unwrap_or(usize::MAX),
                current: Arc::clone(current),
                observed: Arc::clone(&settings.observed),
            },
        };
        let mut store = Store::new(&engine.wasmtime, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(MAX_CALL_SIZE);
        limit_cpu(&mut store, settings, current);
        Ok(store)
    }
}

/// CPU time that this thread has used so far.
fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// At every tick that finds the component computing, it yields its thread, and is charged for the time since the tick before, calls
/// to the host included. The first tick of a request, and the first after a wait, charge nothing.
fn limit_cpu(store: &mut Store<InstanceState>, settings: &Settings, current: &Current) {
    let budget = settings.limits.cpu;
    let current = Arc::clone(current);
    let mut spent = Duration::ZERO;
    let mut served: Option<uuid::Uuid> = None;
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        let mut serving = lock(&current);
        let request = serving.control.as_ref().map(|c| c.request_id);
        if request != served {
            served = request;
            spent = Duration::ZERO;
        }
        if let Some(since) = serving.computing_since.take() {
            spent += thread_cpu_time().saturating_sub(since);
        }
        if spent > budget {
            serving.note(Stop::Cpu);
            return Ok(UpdateDeadline::Interrupt);
        }
        serving.yielding = true;
        let current = Arc::clone(&current);
        Ok(UpdateDeadline::YieldCustom(
            1,
            Box::pin(async move {
                tokio::task::yield_now().await;
                lock(&current).computing_since = Some(thread_cpu_time());
            }),
        ))
    });
}

pub(super) fn lock(current: &Current) -> std::sync::MutexGuard<'_, Serving> {
    // The lock is held for a clone or a store only: nothing in there panics, so a poisoned value is still whole.
    current
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Bounds the linear memory and the tables of all modules of an instance together.
struct Limiter {
    used: usize,
    /// What the growth under way adds, in case it fails.
    growing: usize,
    limit: usize,
    table_elements: usize,
    current: Current,
    observed: Arc<Observed>,
}

/// Entries of all tables of an instance together. They take 8 bytes each.
const MAX_TABLE_ELEMENTS: usize = 1_000_000;

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
            lock(&self.current).note(Stop::Memory);
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
        self.observed.memory(self.used);
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
