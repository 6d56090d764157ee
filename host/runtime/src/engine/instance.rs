//! The state of one instance: its WASI context, its limits, and its state of each capability.

use std::sync::Arc;

use wasmtime::Store;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::cpu::limit_cpu;
use super::current::Current;
use super::limiter::Limiter;
use super::output::GuestOutput;
use crate::capabilities::{Capabilities, Grants, HasStates, OutboundState, States};
use crate::invocation::{Invocation, Output, ParentSpan, Target};

/// What all instances of a component are created with.
pub(crate) struct Settings {
    pub(crate) target: Arc<Target>,
    pub(crate) grants: Grants,
}

/// Limit on the resources (streams, requests, headers, …) of one instance. With wasmtime's default, a million, a leaking component
/// could hold gigabytes of the host's memory; with this limit and the next, it is 128 MiB.
const MAX_RESOURCES: usize = 2_000;

/// Limit on random bytes per call. Generating more at once would block the thread for others.
const MAX_RANDOM: u64 = 64 << 10;

/// Limit on bytes that one call passes from an instance to the host, which are copied before any other limit applies. wasmtime's
/// default, 128 MiB, would block the thread for others.
const MAX_CALL_SIZE: usize = 4 << 20;

/// The data of a wasmtime store.
pub(crate) struct InstanceState {
    /// Dropped before the table: dropping that cancels requests, and none may start afterwards.
    states: States,
    table: ResourceTable,
    wasi: WasiCtx,
    limiter: Limiter,
}

impl InstanceState {
    /// Creates the store of a new instance.
    pub(super) fn store(
        engine: &wasmtime::Engine,
        capabilities: &Capabilities,
        settings: &Settings,
        current: &Current,
    ) -> wasmtime::Result<Store<Self>> {
        let mut wasi = WasiCtxBuilder::new();
        let idle = Arc::new(Output::new(Arc::clone(&settings.target), None));
        let [stdout, stderr] = GuestOutput::both(&idle, current);
        // Nothing is inherited from the host. Sockets are denied: outbound requests go through wasi:http only.
        wasi.stdout(stdout)
            .stderr(stderr)
            .max_random_size(MAX_RANDOM)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        settings.grants.extend(&mut wasi)?;
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let mut states = capabilities.states(&settings.grants, &settings.target.limits);
        states.begin(&ParentSpan::default(), &idle);
        let state = Self {
            table,
            wasi: wasi.build(),
            states,
            limiter: Limiter::new(&settings.target, current),
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(MAX_CALL_SIZE);
        limit_cpu(&mut store, &settings.target.limits, current);
        Ok(store)
    }

    /// Called when another invocation starts.
    pub(crate) fn begin(&mut self, invocation: &Arc<Invocation>) {
        let span = ParentSpan::of(invocation);
        self.states.begin(&span, &invocation.output);
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
        let OutboundState { hooks, context } = &mut self.states.outbound_http;
        WasiHttpCtxView {
            hooks,
            table: &mut self.table,
            ctx: context,
        }
    }
}

impl HasStates for InstanceState {
    fn states(&mut self) -> (&mut States, &mut ResourceTable) {
        (&mut self.states, &mut self.table)
    }
}
