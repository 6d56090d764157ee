//! The life of one instance: which requests it takes, and when it must end.
//!
//! wasmtime's [`ProxyHandler`](wasmtime_wasi_http::handler::ProxyHandler) owns the mechanism; the policy is here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::GuestTaskId;
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::handler::{
    self, HandlerState, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};

use super::Engine;
use super::component::Settings;
use super::control::{Control, Stop};
use super::instance::{Current, InstanceState, lock};
use crate::timer::LazyTimer;

/// Makes the instances of one component.
pub(super) struct Instances {
    pub(super) engine: Arc<Engine>,
    pub(super) settings: Arc<Settings>,
    pub(super) pre: ProxyPre<InstanceState>,
}

impl HandlerState for Instances {
    type StoreData = InstanceState;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(
        &self,
    ) -> wasmtime::Result<handler::Instance<InstanceState, Expiration, Worker>> {
        // Held until the instance is freed. There are as many as the pool has places, so none is ever missing.
        let place = Arc::clone(&self.engine.places).acquire_owned();
        let place = tokio::time::timeout(self.settings.limits.queue_timeout, place)
            .await
            .map_err(|_| {
                wasmtime::format_err!(
                    "all places for instances were in use for {}",
                    humantime::format_duration(self.settings.limits.queue_timeout)
                )
                .context(Stop::NoPlace)
            })??;
        let current = Current::default();
        let mut store = InstanceState::store(&self.engine, &self.settings, &current)?;
        let started = tokio::time::timeout(
            self.settings.limits.timeout,
            self.pre.instantiate_async(&mut store),
        )
        .await
        .unwrap_or_else(|_| {
            lock(&current).failed_to_start = Some(Stop::Timeout);
            Err(wasmtime::format_err!(
                "its own initialization took too long"
            ))
        });
        let proxy = match (started, lock(&current).failed_to_start) {
            (Ok(proxy), _) => proxy,
            (Err(error), None) => return Err(error),
            (Err(error), Some(stop)) => return Err(error.context(stop)),
        };
        Ok(handler::Instance {
            store,
            proxy,
            view: InstanceState::http,
            expiration: Expiration {
                current: Arc::clone(&current),
                idle: self.settings.limits.instance_idle,
                timer: LazyTimer::default(),
            },
            state: Worker {
                current,
                engine: Arc::clone(&self.engine),
                settings: Arc::clone(&self.settings),
                _place: place,
            },
        })
    }
}

/// Which requests an instance takes: one at a time, as many as the component's limits allow.
pub(super) struct Worker {
    current: Current,
    engine: Arc<Engine>,
    settings: Arc<Settings>,
    _place: OwnedSemaphorePermit,
}

impl WorkerState for Worker {
    type StoreData = InstanceState;
    type RequestData = Arc<Control>;

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        if total >= self.settings.limits.instance_reuse {
            ShouldAccept::Never
        } else if concurrent > 0 {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        mut store: StoreContextMut<'_, InstanceState>,
        control: Arc<Control>,
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        store.data_mut().states.outbound_http.begin_request();
        let mut serving = lock(&self.current);
        serving.reporter = Some(Arc::clone(&control.reporter));
        serving.control = Some(control);
        // It may have been idle, or started, since the last tick.
        serving.computing_since = None;
        // `Expiration` watches over the request: an instance has only one at a time, and ends with it.
        Box::pin(std::future::pending())
    }

    fn drop(&self, store: Store<InstanceState>, result: wasmtime::Result<()>) {
        let (control, reporter) = {
            let mut serving = lock(&self.current);
            (serving.control.take(), serving.reporter.take())
        };
        // What shows in no answer any more is reported here: a trap, with its backtrace, and a stop after the answer had begun.
        if let (Err(error), Some(control)) = (&result, &control) {
            control.set_failed();
            if self.engine.stopped() {
                tracing::warn!(
                    component = &*self.settings.id,
                    request_id = %control.request_id,
                    after_its_answer = control.answered(),
                    "the component was not done with the request when the host stopped"
                );
            } else {
                control.count_late_failure();
                match control.stop() {
                    Some(stop) => control.reporter.report_stop(stop),
                    None if control.is_client_gone() => {}
                    None => control.reporter.report_trap(error),
                }
            }
        }
        // It was taken for idle when it trapped.
        if let (Err(error), None, Some(reporter)) = (&result, &control, reporter)
            && !self.engine.stopped()
        {
            reporter.report_trap(error);
        }
        // The instance goes before its request's place among those that run: the next one finds room.
        drop(store);
        drop(control);
    }
}

/// When an instance must end, watched from outside of its event loop: a component that computes or waits inside a host
/// call keeps that loop from noticing.
pub(super) struct Expiration {
    current: Current,
    idle: std::time::Duration,
    timer: LazyTimer,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        let control = {
            let mut serving = lock(&self.current);
            serving.suspended();
            if status == WorkerStatus::Idle {
                // The request is over; an idle instance must not keep its place.
                serving.control = None;
            }
            serving.control.clone()
        };
        let end = match &control {
            Some(control) if control.poll_client_gone(context) => return Poll::Ready(()),
            Some(control) => control.deadline,
            None => tokio::time::Instant::from_std(start + self.idle),
        };
        let over = self.timer.poll_until(end, context);
        if let (Poll::Ready(()), Some(control)) = (over, control) {
            control.note(Stop::Timeout);
        }
        over
    }
}
