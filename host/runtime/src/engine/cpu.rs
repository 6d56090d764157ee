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

/// Maximum number of tasks that may wait when a component goes on computing.
const MAX_WAITING: usize = 64;
/// Maximum number of times that it yields to them. They are more than a component can start between two ticks; the limit is for a
/// host with more work than its threads can do.
const MAX_YIELDS: usize = 100;

/// Lets other tasks run. A component can start tasks in the host, by outbound requests or streams that it drops at once, faster than
/// the threads end them while they come back to the component after each few.
async fn give_way() {
    let metrics = tokio::runtime::Handle::current().metrics();
    for _ in 0..MAX_YIELDS {
        tokio::task::yield_now().await;
        if metrics.global_queue_depth() <= MAX_WAITING {
            break;
        }
    }
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
            .map(|invocation| invocation.ids.request);
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
                give_way().await;
                lock(&current).computing_since = Some(thread_cpu_time());
            }),
        ))
    });
}
