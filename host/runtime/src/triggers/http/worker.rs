//! Lifecycle of one instance: which requests it accepts, and when it ends.
//!
//! The mechanism is wasmtime's [`ProxyHandler`](wasmtime_wasi_http::handler::ProxyHandler); the policy is here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;
use wasmtime::component::GuestTaskId;
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::handler::{
    self, HandlerState, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};

use crate::engine::{Component, Current, InstancePermit, InstanceState, Started, lock};
use crate::invocation::{Invocation, Phase, Stop};

/// Creates the instances of one component.
pub(super) struct Instances {
    pub(super) component: Arc<Component>,
    pub(super) pre: ProxyPre<InstanceState>,
}

impl HandlerState for Instances {
    type StoreData = InstanceState;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(
        &self,
    ) -> wasmtime::Result<handler::Instance<InstanceState, Expiration, Worker>> {
        let started = self
            .component
            .start(async |store| self.pre.instantiate_async(store).await);
        let Started {
            store,
            exports,
            current,
            permit,
        } = started.await?;
        Ok(handler::Instance {
            store,
            proxy: exports,
            view: InstanceState::http,
            expiration: Expiration {
                current: Arc::clone(&current),
                idle: self.component.target().limits.instance_idle,
                timer: None,
            },
            state: Worker {
                current,
                component: Arc::clone(&self.component),
                _permit: permit,
            },
        })
    }
}

/// Decides which requests an instance accepts: one at a time, and as many as the component's limits allow.
pub(super) struct Worker {
    current: Current,
    component: Arc<Component>,
    _permit: InstancePermit,
}

impl WorkerState for Worker {
    type StoreData = InstanceState;
    type RequestData = Arc<Invocation>;

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        if total >= self.component.target().limits.instance_reuse {
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
        invocation: Arc<Invocation>,
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        store.data_mut().begin(&invocation);
        lock(&self.current).begin(&invocation);
        // `Expiration` enforces the request's deadline: an instance has one request at a time, and ends with it.
        Box::pin(std::future::pending())
    }

    fn drop(&self, store: Store<InstanceState>, result: wasmtime::Result<()>) {
        let (invocation, reporter) = {
            let mut activity = lock(&self.current);
            (activity.invocation.take(), activity.reporter.take())
        };
        let target = self.component.target();
        // Failures that no response can show are reported here: a trap, with its backtrace, and a stop after the response started.
        if let (Err(error), Some(invocation)) = (&result, &invocation) {
            invocation.fail();
            let after_its_answer = invocation.has_responded();
            if target.host_has_stopped() {
                tracing::warn!(
                    component = &*target.id,
                    request_id = %invocation.ids.request,
                    trace_id = %invocation.ids.trace,
                    after_its_answer,
                    "the component had not finished the request when the host stopped"
                );
            } else {
                let reporter = &invocation.reporter;
                match invocation.stop() {
                    Some(stop) => reporter.report_stop(after_its_answer, stop),
                    None if invocation.phase() == Phase::Abandoned => {}
                    None => reporter.report_trap(after_its_answer, &format!("{error:#}")),
                }
            }
        }
        // It counted as idle when it trapped.
        if let (Err(error), None, Some(reporter)) = (&result, &invocation, reporter)
            && !target.host_has_stopped()
        {
            reporter.report_trap(true, &format!("{error:#}"));
        }
        // The instance is freed before its permits are released, so that the next invocation finds room.
        drop(store);
        drop(invocation);
    }
}

/// Decides when an instance must end. It runs outside of the instance's event loop, which is blocked while the component computes or
/// waits inside a host call.
pub(super) struct Expiration {
    current: Current,
    idle: std::time::Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        let invocation = {
            let mut activity = lock(&self.current);
            activity.suspended();
            if status == WorkerStatus::Idle {
                // The request has ended; an idle instance must not hold its permits.
                activity.invocation = None;
            }
            activity.invocation.clone()
        };
        let end = match &invocation {
            Some(invocation) if invocation.poll_abandoned(context) => return Poll::Ready(()),
            Some(invocation) => invocation.deadline,
            None => tokio::time::Instant::from_std(start + self.idle),
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        if timer.deadline() != end {
            timer.as_mut().reset(end);
        }
        let expired = timer.as_mut().poll(context);
        if let (Poll::Ready(()), Some(invocation)) = (expired, invocation) {
            invocation.stop_at(Stop::Timeout);
        }
        expired
    }
}
