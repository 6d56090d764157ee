//! Calls of components by triggers other than HTTP: each in an instance of its own.

use wasmtime::Store;

use crate::engine::{Component, InstanceState};
use crate::error::{Code, Failure};
use crate::invocation::{Caller, Fault, Invocation, RequestIds, Stop, truncated};

/// Calls a component: creates an instance with `instantiate`, and calls it with `call`, which returns the component's own error, too.
/// Failures are reported and counted.
///
/// # Errors
/// [`Failure`], as the sender of the event sees it.
pub(super) async fn call<T>(
    component: &Component,
    ids: RequestIds,
    caller: Caller,
    instantiate: impl AsyncFnOnce(&mut Store<InstanceState>) -> wasmtime::Result<T>,
    call: impl AsyncFnOnce(&mut Store<InstanceState>, T) -> wasmtime::Result<Result<(), String>>,
) -> Result<(), Failure> {
    let target = component.target();
    let permits = target.admit(caller).await?;
    let invocation = Invocation::begin(target, ids, permits);
    let result = component.run(&invocation, instantiate, call).await;
    match (result, invocation.stop()) {
        (Ok(Ok(())), _) => Ok(()),
        (_, Some(stop)) => Err(invocation.stopped(stop)),
        (Ok(Err(error)), None) => {
            let error = truncated(&error);
            invocation.reporter.report(Fault::ErrorCode, false, error);
            Err(Failure::new(
                Code::ComponentError,
                format!("component {} returned the error: {error}", target.id),
            ))
        }
        (Err(error), None) => match error.downcast_ref::<Stop>() {
            Some(&stop) => Err(invocation.stopped(stop)),
            None => {
                let error = format!("{error:#}");
                invocation.reporter.report_trap(false, &error);
                Err(invocation.failed())
            }
        },
    }
}
