//! A component that takes HTTP requests.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use wasmtime_wasi_http::handler::{InstantiationError, ProxyHandler, ProxyPre};
use wasmtime_wasi_http::{p2, p3};

use super::answer_body::AnswerBody;
use super::body::RequestBody;
use super::guard::ClientGuard;
use super::worker::Instances;
use crate::engine::{Component, Outline};
use crate::error::{Code, Failure};
use crate::invocation::{Fault, Invocation, Stop};
use crate::timer::SharedTimer;

/// Which generation of WASI's HTTP handler a component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// `wasi:http/incoming-handler@0.2`.
    Wasi02,
    /// `wasi:http/handler@0.3`.
    Wasi03,
}

impl std::fmt::Display for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Interface::Wasi02 => "wasi:http/incoming-handler@0.2",
            Interface::Wasi03 => "wasi:http/handler@0.3",
        })
    }
}

/// A component that takes HTTP requests.
pub(crate) struct HttpHandler {
    component: Arc<Component>,
    interface: Interface,
    proxy: ProxyHandler<Instances>,
}

/// How long a request without an answer waits for the report of a trap.
const TRAP_REPORT: Duration = Duration::from_millis(100);

/// Checks that a component exports something that requests can be handed to.
pub(super) fn check(id: &str, outline: &Outline) -> anyhow::Result<()> {
    let is_http = |export: &String| export.starts_with("wasi:http/");
    anyhow::ensure!(outline.exports.iter().any(is_http), no_handler(id));
    Ok(())
}

fn no_handler(id: &str) -> String {
    format!(
        "component {id} exports no HTTP handler: neither {} nor {}",
        Interface::Wasi02,
        Interface::Wasi03
    )
}

impl HttpHandler {
    /// # Errors
    /// When the component exports no HTTP handler.
    pub(super) fn new(component: &Arc<Component>) -> anyhow::Result<Self> {
        let pre = component.pre();
        let (pre, interface) = match p3::bindings::ServicePre::new(pre.clone()) {
            Ok(pre) => (ProxyPre::P3(pre), Interface::Wasi03),
            Err(_) => match p2::bindings::ProxyPre::new(pre.clone()) {
                Ok(pre) => (ProxyPre::P2(pre), Interface::Wasi02),
                Err(_) => anyhow::bail!(no_handler(&component.target().id)),
            },
        };
        Ok(Self {
            proxy: ProxyHandler::new(Instances {
                component: Arc::clone(component),
                pre,
            }),
            component: Arc::clone(component),
            interface,
        })
    }

    /// The id of its component.
    pub(crate) fn id(&self) -> &Arc<str> {
        &self.component.target().id
    }

    /// What it exports.
    pub(crate) fn interface(&self) -> Interface {
        self.interface
    }

    /// Handles one request of a client, or of the host itself; `timer` is its connection's. Dropping the future, or the answer's body before its end, stops the
    /// component's work.
    pub(crate) async fn handle(
        &self,
        request_id: uuid::Uuid,
        client: Option<IpAddr>,
        timer: &SharedTimer,
        mut request: http::Request<RequestBody>,
    ) -> Result<http::Response<AnswerBody>, Failure> {
        let target = self.component.target();
        let limits = &target.limits;
        let limit = limits.request_body.as_u64();
        if request.body().least() > limit {
            return Err(target.failure(Stop::BodyTooLarge));
        }
        let turn = target.admit(client);
        let admitted = match request.headers().contains_key(http::header::EXPECT) {
            // The client waits to be asked for its body: the component asks.
            true => turn.await,
            false => {
                let body = request.body_mut();
                // A client that sends nothing of its body takes no place.
                if !body.begin(limits.body_idle, timer).await {
                    return Err(target.failure(Stop::BodyIdle));
                }
                body.wait_for(turn).await
            }
        };
        let metrics = &target.telemetry.metrics;
        let (permits, waited) = admitted.inspect_err(|_| metrics.rejected.increment(1))?;
        metrics.admitted.increment(1);
        metrics.queue_duration.record(waited);
        let invocation = Invocation::begin(target, request_id, permits);
        // Stops the instance when the caller loses interest before there is an answer.
        let mut guard = ClientGuard(Some(Arc::clone(&invocation)));

        let method = request.method().clone();
        let request = request.map(|body| body.watched(&invocation, limits));
        let result = self.proxy.handle(Arc::clone(&invocation), request).await;
        // A component that was stopped may still answer in the little time it has left, and a component whose body was
        // cut off may blame the client: the host knows better.
        let answer = match (result, invocation.stop()) {
            (_, Some(stop)) => return Err(self.stopped(&invocation, stop)),
            (Ok(answer), None) => answer,
            (Err(error), None) => {
                guard.keep_instance();
                return Err(self.explain(&invocation, &error).await);
            }
        };
        if answer.status().is_informational() {
            let status = answer.status().as_u16();
            invocation.reporter.report(
                Fault::NoAnswer,
                false,
                &format!("status {status} is not a final one"),
            );
            metrics.trapped.increment(1);
            return Err(target.failed(request_id));
        }
        match (
            AnswerBody::guest(answer, &method, guard, timer).await,
            invocation.stop(),
        ) {
            (Some(answer), _) => {
                invocation.begin_answer();
                Ok(answer)
            }
            (None, Some(stop)) => Err(self.stopped(&invocation, stop)),
            (None, None) => {
                metrics.trapped.increment(1);
                Err(target.failed(request_id))
            }
        }
    }

    /// The answer to a request that the host stopped before its answer had begun.
    fn stopped(&self, invocation: &Invocation, stop: Stop) -> Failure {
        let target = self.component.target();
        target.telemetry.metrics.stopped.increment(1);
        invocation.reporter.report_stop(false, stop);
        target.failure(stop)
    }

    /// The answer to a request whose component failed by itself. The trap and its backtrace are for the log alone.
    async fn explain(&self, invocation: &Invocation, error: &wasmtime::Error) -> Failure {
        let target = self.component.target();
        let metrics = &target.telemetry.metrics;
        if let Some(stop) = failed_to_start(error) {
            match stop {
                Stop::NoPlace => metrics.rejected.increment(1),
                _ => metrics.trapped.increment(1),
            }
            invocation.reporter.report_stop(false, stop);
            return target.failure(stop);
        }
        if let Some(code) = error_code(error) {
            invocation.reporter.report(Fault::ErrorCode, false, &code);
            return Failure::new(
                Code::ComponentError,
                format!(
                    "component {} answered with the error {code} instead of a response",
                    target.id
                ),
            );
        }
        let starting = error.downcast_ref::<InstantiationError<Arc<Invocation>>>();
        let error = starting.map_or(error, |starting| &*starting.error);
        if error.is::<wasmtime::Trap>() || error.is::<wasmtime::WasmBacktrace>() {
            invocation
                .reporter
                .report_trap(false, &format!("{error:#}"));
        } else {
            // A trap shows here as a missing answer if it ends the instance before the call: then who frees the instance has it.
            invocation.reporter.wait(TRAP_REPORT).await;
            invocation
                .reporter
                .report(Fault::NoAnswer, false, &format!("{error:#}"));
        }
        if invocation.reporter.memory_refused() {
            metrics.stopped.increment(1);
            return target.failure(Stop::Memory);
        }
        metrics.trapped.increment(1);
        target.failed(invocation.request_id)
    }
}

/// Why the host did not let an instance start, if that is what went wrong.
fn failed_to_start(error: &wasmtime::Error) -> Option<Stop> {
    error
        .downcast_ref::<InstantiationError<Arc<Invocation>>>()
        .and_then(|starting| starting.error.downcast_ref::<Stop>())
        .copied()
}

/// The error code of `wasi:http` that a component answered with, if that is what went wrong.
fn error_code(error: &wasmtime::Error) -> Option<String> {
    let code = error.downcast_ref::<p2::bindings::http::types::ErrorCode>();
    code.map(|code| format!("{code:?}")).or_else(|| {
        let code = error.downcast_ref::<p3::bindings::http::types::ErrorCode>();
        code.map(|code| format!("{code:?}"))
    })
}
