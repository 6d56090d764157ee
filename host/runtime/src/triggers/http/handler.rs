//! A component that handles HTTP requests.

use std::sync::Arc;
use std::time::Duration;

use wasmtime_wasi_http::handler::{InstantiationError, ProxyHandler, ProxyPre};
use wasmtime_wasi_http::{p2, p3};

use super::body::RequestBody;
use super::guard::ClientGuard;
use super::response_body::ResponseBody;
use super::worker::Instances;
use crate::capabilities::Servers;
use crate::engine::{Component, Outline};
use crate::error::{Code, Failure};
use crate::invocation::{Caller, Fault, Invocation, Permit, RequestIds, Stop, Target, truncated};

/// The version of WASI's HTTP handler that a component exports.
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

/// A component that handles HTTP requests.
pub(crate) struct HttpHandler {
    component: Arc<Component>,
    interface: Interface,
    proxy: ProxyHandler<Instances>,
}

/// How long a request without a response waits for the report of a trap.
const TRAP_REPORT: Duration = Duration::from_millis(100);

/// Checks that a component exports an HTTP handler.
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
    /// Creates the handler of a component.
    ///
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

    /// Returns the component that it calls.
    pub(crate) fn target(&self) -> &Arc<Target> {
        self.component.target()
    }

    /// Returns the component's id.
    pub(crate) fn id(&self) -> &Arc<str> {
        &self.component.target().id
    }

    /// Returns the servers that the component may send requests to, if any.
    pub(super) fn servers(&self) -> Option<&Arc<Servers>> {
        self.component.grants().servers()
    }

    /// Returns whether the component uses a model.
    pub(super) fn uses_models(&self) -> bool {
        self.component.grants().models().is_some()
    }

    /// Returns whether no work waits for the component's models.
    pub(super) fn models_have_room(&self) -> bool {
        let models = self.component.grants().models();
        models.is_none_or(|models| models.iter().all(|(_, engine)| engine.has_room()))
    }

    /// Returns the interface that it exports.
    pub(crate) fn interface(&self) -> Interface {
        self.interface
    }

    /// Handles one request of a client, or of the host itself. Dropping the future, or the
    /// response's body before its end, stops the component.
    pub(crate) async fn handle(
        &self,
        ids: RequestIds,
        caller: Caller,
        mut request: http::Request<RequestBody>,
    ) -> Result<http::Response<ResponseBody>, Failure> {
        let permits = self.admit(caller, &mut request).await?;
        let invocation = Invocation::begin(self.target(), ids, permits);
        self.run(invocation, request).await
    }

    /// Waits for the permits of a request.
    ///
    /// # Errors
    /// [`Failure`], as the client sees it.
    pub(super) async fn admit(
        &self,
        caller: Caller,
        request: &mut http::Request<RequestBody>,
    ) -> Result<[Permit; 2], Failure> {
        let target = self.target();
        let limits = &target.limits;
        if request.body().min_size() > limits.request_body.as_u64() {
            return Err(target.failure(Stop::BodyTooLarge));
        }
        let admit = target.admit(caller);
        // The client sends its body only once somebody reads it.
        if request.headers().contains_key(http::header::EXPECT) {
            return admit.await;
        }
        let body = request.body_mut();
        // A client that sends nothing of its body gets no permit.
        if !body.wait_for_start(limits.body_idle).await {
            return Err(target.failure(Stop::BodyIdle));
        }
        body.wait_for(admit).await
    }

    /// Runs an invocation that handles a request. Dropping the future, or the response's body before its end, stops the component.
    pub(crate) async fn run(
        &self,
        invocation: Arc<Invocation>,
        mut request: http::Request<RequestBody>,
    ) -> Result<http::Response<ResponseBody>, Failure> {
        let limits = &self.component.target().limits;
        // Stops the instance if the caller drops the future before there is a response.
        let mut guard = ClientGuard(Some(Arc::clone(&invocation)));

        let method = request.method().clone();
        telemetry::trace::inject(&invocation.span, request.headers_mut());
        let stopped = Arc::clone(&invocation);
        let request = request.map(|body| body.limited(limits, move |stop| stopped.stop_at(stop)));
        let result = self.proxy.handle(Arc::clone(&invocation), request).await;
        // A stopped component may still respond in the short time it has left, and one whose request body was cut off may blame the
        // client: the stop takes precedence.
        let response = match (result, invocation.stop()) {
            (_, Some(stop)) => return Err(invocation.stopped(stop)),
            (Ok(response), None) => response,
            (Err(error), None) => {
                guard.disarm();
                return Err(self.explain(&invocation, &error).await);
            }
        };
        if response.status().is_informational() {
            let status = response.status().as_u16();
            invocation.reporter.report(
                Fault::NoResponse,
                false,
                &format!("status {status} is not a final one"),
            );
            return Err(invocation.failed());
        }
        match (
            ResponseBody::guest(response, &method, guard).await,
            invocation.stop(),
        ) {
            (Some(response), _) => {
                invocation.begin_response();
                Ok(response)
            }
            (None, Some(stop)) => Err(invocation.stopped(stop)),
            (None, None) => Err(invocation.failed()),
        }
    }

    /// Reports an invocation whose component failed by itself, and returns the failure. The trap and its backtrace go to the log only.
    async fn explain(&self, invocation: &Invocation, error: &wasmtime::Error) -> Failure {
        let target = self.component.target();
        if let Some(stop) = failed_to_start(error) {
            return invocation.stopped(stop);
        }
        if let Some(code) = error_code(error) {
            let code = truncated(&code);
            invocation.reporter.report(Fault::ErrorCode, false, code);
            return Failure::new(
                Code::ComponentError,
                format!(
                    "component {} returned the error {code} instead of a response",
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
            // A trap that ends the instance before the call shows here as a missing response: the worker reports it.
            invocation.reporter.wait(TRAP_REPORT).await;
            invocation
                .reporter
                .report(Fault::NoResponse, false, &format!("{error:#}"));
        }
        invocation.failed()
    }
}

/// Returns the limit that stopped the start of an instance, if that is the error.
fn failed_to_start(error: &wasmtime::Error) -> Option<Stop> {
    error
        .downcast_ref::<InstantiationError<Arc<Invocation>>>()
        .and_then(|starting| starting.error.downcast_ref::<Stop>())
        .copied()
}

/// Returns the error code of `wasi:http` that a component returned, if that is the error.
fn error_code(error: &wasmtime::Error) -> Option<String> {
    let code = error.downcast_ref::<p2::bindings::http::types::ErrorCode>();
    code.map(|code| format!("{code:?}")).or_else(|| {
        let code = error.downcast_ref::<p3::bindings::http::types::ErrorCode>();
        code.map(|code| format!("{code:?}"))
    })
}
