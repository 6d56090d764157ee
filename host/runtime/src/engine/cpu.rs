//! CPU time limit of an instance.

use std::sync::Arc;
use std::time::Duration;

use manifest::Limits;
use rustix::time::{ClockId, clock_gettime};
use wasmtime::{Store, UpdateDeadline};

use super::current::{Current, lock};
use crate::invocation::Stop;

/// Returns the CPU time that this thread has used so far.
fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Limits CPU time. At every tick while it computes, the component yields its thread and is charged for the time since the previous
/// tick, including calls to the host. The first tick of a request, and the first after a wait, charge nothing.
pub(super) fn limit_cpu<T: 'static>(store: &mut Store<T>, limits: &Limits, current: &Current) {
    let budget = limits.cpu;
    let current = Arc::clone(current);
    let mut spent = Duration::ZERO;
    let mut last_request: Option<uuid::Uuid> = None;
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        let mut activity = lock(&current);
        let request = activity
            .invocation
            .as_ref()
            .map(|invocation| invocation.request_id);
        if request != last_request {
            last_request = request;
            spent = Duration::ZERO;
        }
        if let Some(since) = activity.computing_since.take() {
            spent += thread_cpu_time().saturating_sub(since);
        }
        if spent > budget {
            activity.stop_at(Stop::Cpu);
            return Ok(UpdateDeadline::Interrupt);
        }
        activity.yielding = true;
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
