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

use crate::engine::{Component, Current, InstanceState, Started, lock};
use crate::invocation::{Invocation, Phase, Stop};
use crate::timer::LazyTimer;

/// Makes the instances of one component.
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
                timer: LazyTimer::default(),
            },
            state: Worker {
                current,
                component: Arc::clone(&self.component),
                _permit: permit,
            },
        })
    }
}

/// Which requests an instance takes: one at a time, as many as the component's limits allow.
pub(super) struct Worker {
    current: Current,
    component: Arc<Component>,
    _permit: OwnedSemaphorePermit,
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
        store.data_mut().begin(&invocation.span);
        let mut activity = lock(&self.current);
        activity.reporter = Some(Arc::clone(&invocation.reporter));
        activity.invocation = Some(invocation);
        // It may have been idle, or started, since the last tick.
        activity.computing_since = None;
        // `Expiration` watches over the request: an instance has only one at a time, and ends with it.
        Box::pin(std::future::pending())
    }

    fn drop(&self, store: Store<InstanceState>, result: wasmtime::Result<()>) {
        let (invocation, reporter) = {
            let mut activity = lock(&self.current);
            (activity.invocation.take(), activity.reporter.take())
        };
        let target = self.component.target();
        // What shows in no answer any more is reported here: a trap, with its backtrace, and a stop after the answer had begun.
        if let (Err(error), Some(invocation)) = (&result, &invocation) {
            invocation.fail();
            let after_its_answer = invocation.was_answered();
            if target.host_has_stopped() {
                tracing::warn!(
                    component = &*target.id,
                    request_id = %invocation.request_id,
                    after_its_answer,
                    "the component was not done with the request when the host stopped"
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
        // It was taken for idle when it trapped.
        if let (Err(error), None, Some(reporter)) = (&result, &invocation, reporter)
            && !target.host_has_stopped()
        {
            reporter.report_trap(true, &format!("{error:#}"));
        }
        // The instance goes before its permits: the next invocation finds room.
        drop(store);
        drop(invocation);
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
        let invocation = {
            let mut activity = lock(&self.current);
            activity.suspended();
            if status == WorkerStatus::Idle {
                // The request is over; an idle instance must not keep its permits.
                activity.invocation = None;
            }
            activity.invocation.clone()
        };
        let end = match &invocation {
            Some(invocation) if invocation.poll_abandoned(context) => return Poll::Ready(()),
            Some(invocation) => invocation.deadline,
            None => tokio::time::Instant::from_std(start + self.idle),
        };
        let over = self.timer.poll_until(end, context);
        if let (Poll::Ready(()), Some(invocation)) = (over, invocation) {
            invocation.stop_at(Stop::Timeout);
        }
        over
    }
}
