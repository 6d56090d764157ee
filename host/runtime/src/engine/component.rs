//! A component that is ready to take requests: compiled, linked, pre-instantiated, within its limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::handler::{HandlerState as _, InstantiationError, ProxyHandler, ProxyPre};

use super::Engine;
use super::admission::{Admission, Permit, Refused};
use super::body::{AnswerBody, RequestBody};
use super::control::{Control, Reported, Stop};
use super::figures::{Figures, Observed};
use super::outline::Outline;
use super::worker::Instances;
use crate::capabilities::{Capabilities, Grants};
use crate::error::{Code, Failure};
use crate::manifest::{Limits, Manifest};
use crate::timer::SharedTimer;

/// What a component is called, given, and held to.
pub(crate) struct Settings {
    pub(crate) id: Arc<str>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) grants: Grants,
    pub(crate) limits: Limits,
    pub(crate) observed: Arc<Observed>,
}

/// Which generation of WASI's HTTP handler a component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    /// `wasi:http/incoming-handler@0.2`.
    Wasi02,
    /// `wasi:http/handler@0.3`.
    Wasi03,
}

impl std::fmt::Display for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Handler::Wasi02 => "wasi:http/incoming-handler@0.2",
            Handler::Wasi03 => "wasi:http/handler@0.3",
        })
    }
}

/// A component that takes HTTP requests.
pub(crate) struct Component {
    pub(crate) settings: Arc<Settings>,
    pub(crate) handler: Handler,
    proxy: ProxyHandler<Instances>,
    admission: Arc<Admission>,
}

/// How long the host asks an overloaded client to stay away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a request without an answer waits for the report of a trap.
const TRAP_REPORT: Duration = Duration::from_millis(100);

impl Component {
    /// Prepares the component `id` of the manifest from its composed bytes and what it is granted.
    ///
    /// # Errors
    /// When the bytes are no component, when it imports what the host does not provide or the manifest does not grant,
    /// or when it exports no HTTP handler. Each message says what is missing and what would provide it.
    pub(crate) fn prepare(
        engine: &Arc<Engine>,
        manifest: &Manifest,
        id: &str,
        grants: Grants,
        wasm: &[u8],
        abandoned: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let entry = &manifest.components[id];
        let not_compiled = || format!("component {id} cannot be compiled");
        let outline = Outline::of(wasm).with_context(not_compiled)?;
        for import in &outline.imports {
            if let Some(how) = grants.missing(import) {
                anyhow::bail!(
                    "component {id} imports {import}, which its manifest entry does not grant: {how}"
                );
            }
        }
        let no_handler = || {
            format!(
                "component {id} exports no HTTP handler: neither {} nor {}",
                Handler::Wasi02,
                Handler::Wasi03
            )
        };
        let is_http = |export: &String| export.starts_with("wasi:http/");
        anyhow::ensure!(outline.exports.iter().any(is_http), no_handler());
        let compiled = engine
            .cache
            .component(wasm, abandoned)
            .with_context(not_compiled)?;
        let pre = engine
            .linker
            .instantiate_pre(&compiled.component)
            .map_err(|error| not_provided(id, &outline.imports, &error))?;
        let (pre, handler) = match wasmtime_wasi_http::p3::bindings::ServicePre::new(pre.clone()) {
            Ok(pre) => (ProxyPre::P3(pre), Handler::Wasi03),
            Err(_) => match wasmtime_wasi_http::p2::bindings::ProxyPre::new(pre) {
                Ok(pre) => (ProxyPre::P2(pre), Handler::Wasi02),
                Err(_) => anyhow::bail!(no_handler()),
            },
        };
        engine.cache.store(compiled);
        let limits = entry.tool.whisper_host.limits.clone();
        let admission = Admission::new(limits.concurrency, limits.client_concurrency, limits.queue);
        let settings = Arc::new(Settings {
            id: id.into(),
            environment: entry.environment.clone().into_iter().collect(),
            grants,
            limits,
            observed: engine.observed.of(id),
        });
        Ok(Self {
            proxy: ProxyHandler::new(Instances {
                engine: Arc::clone(engine),
                settings: Arc::clone(&settings),
                pre,
            }),
            settings,
            handler,
            admission: Arc::new(admission),
        })
    }

    /// Makes an instance and drops it.
    pub(crate) async fn instantiate(&self) -> anyhow::Result<()> {
        self.proxy
            .state()
            .instantiate()
            .await
            .map(drop)
            .map_err(anyhow::Error::from)
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
        let limits = &self.settings.limits;
        let limit = limits.request_body.as_u64();
        if request.body().least() > limit {
            return Err(self.failure(Stop::BodyTooLarge));
        }
        let turn = self.admit(client);
        let admitted = match request.headers().contains_key(http::header::EXPECT) {
            // The client waits to be asked for its body: the component asks.
            true => turn.await,
            false => {
                let body = request.body_mut();
                // A client that sends nothing of its body takes no place.
                if !body.begin(limits.body_idle, timer).await {
                    return Err(self.failure(Stop::BodyIdle));
                }
                body.wait_for(turn).await
            }
        };
        let observed = &self.settings.observed;
        let (permits, waited) = admitted.inspect_err(|_| observed.refuse())?;
        observed.request(waited);
        let control = Arc::new(Control::new(
            request_id,
            Arc::clone(&self.settings),
            permits,
            self.proxy.state().engine.under_way.token(),
        ));
        // Stops the instance when the caller loses interest before there is an answer.
        let mut guard = ClientGuard(Some(Arc::clone(&control)));

        let method = request.method().clone();
        let request = request.map(|body| body.watched(&control, limits));
        let result = self.proxy.handle(Arc::clone(&control), request).await;
        // A component that was stopped may still answer in the little time it has left, and a component whose body was
        // cut off may blame the client: the host knows better.
        let answer = match (result, control.stop()) {
            (_, Some(stop)) => return Err(self.stopped(&control, stop)),
            (Ok(answer), None) => answer,
            (Err(error), None) => {
                guard.keep_instance();
                return Err(self.explain(&control, &error).await);
            }
        };
        if answer.status().is_informational() {
            let status = answer.status().as_u16();
            control.reporter.report(
                Reported::NoAnswer,
                &format!("status {status} is not a final one"),
            );
            observed.trap();
            return Err(self.failed(request_id));
        }
        match (
            AnswerBody::guest(answer, &method, guard, timer).await,
            control.stop(),
        ) {
            (Some(answer), _) => {
                control.set_responded();
                Ok(answer)
            }
            (None, Some(stop)) => Err(self.stopped(&control, stop)),
            (None, None) => {
                observed.trap();
                Err(self.failed(request_id))
            }
        }
    }

    /// What is counted of the component.
    pub(crate) fn figures(&self) -> Figures {
        let (running, waiting) = self.admission.counts();
        self.settings.observed.figures(running, waiting)
    }

    /// Waits until the request may run: in this component, and among those of all. Gives how long that was, too.
    async fn admit(&self, client: Option<IpAddr>) -> Result<([Permit; 2], Duration), Failure> {
        let timeout = self.settings.limits.queue_timeout;
        let of_component = self.admission.acquire(client, timeout).await;
        let (of_component, waited) = of_component.map_err(|refused| self.refused(refused))?;
        let of_all = &self.proxy.state().engine.admission;
        match of_all.acquire(client, timeout).await {
            Ok((of_all, again)) => Ok(([of_component, of_all], waited + again)),
            Err(_) => Err(self.failure(Stop::NoPlace)),
        }
    }

    fn refused(&self, refused: Refused) -> Failure {
        let (limits, id) = (&self.settings.limits, &self.settings.id);
        let message = match refused {
            Refused::Full => format!(
                "{} requests of component {id} run and {} more wait, which is all it may have; try again shortly",
                limits.concurrency, limits.queue
            ),
            Refused::Displaced => format!(
                "{} requests of component {id} wait, which is all it may have, and this client has the most of them; try again shortly",
                limits.queue
            ),
            Refused::TimedOut => format!(
                "the request waited for its turn at component {id} for {}; try again shortly",
                humantime::format_duration(limits.queue_timeout)
            ),
        };
        Failure::new(Code::Overloaded, message).retry_after(RETRY_AFTER)
    }

    /// The answer to a request that the host stopped.
    fn failure(&self, stop: Stop) -> Failure {
        let limits = &self.settings.limits;
        match stop {
            Stop::Timeout => Failure::new(
                Code::Deadline,
                format!(
                    "the request took longer than the {} that component {} has; send less at once, or let the operator raise `timeout`",
                    humantime::format_duration(limits.timeout),
                    self.settings.id
                ),
            ),
            Stop::NoPlace => Failure::new(
                Code::Overloaded,
                format!(
                    "all places that the host has for instances were in use for {}; try again shortly",
                    humantime::format_duration(limits.queue_timeout)
                ),
            )
            .retry_after(RETRY_AFTER),
            Stop::Cpu => Failure::new(
                Code::Deadline,
                format!(
                    "component {} computed for longer than the {} it has for one request; send less at once, or let the operator raise `cpu`",
                    self.settings.id,
                    humantime::format_duration(limits.cpu)
                ),
            ),
            Stop::Memory => Failure::new(
                Code::MemoryLimit,
                format!(
                    "component {} needed more than the {} of memory it has; send less at once, or let the operator raise `memory`",
                    self.settings.id, limits.memory
                ),
            ),
            Stop::BodyTooLarge => Failure::new(
                Code::BodyTooLarge,
                format!(
                    "the request's body is larger than the {} that component {} takes; compress or split it, or let the operator raise `request_body`",
                    limits.request_body, self.settings.id
                ),
            ),
            Stop::BodyIdle => Failure::new(
                Code::RequestTimeout,
                format!(
                    "less than {} of the request's body arrived in {}; send it again over a better connection",
                    limits.body_progress,
                    humantime::format_duration(limits.body_idle)
                ),
            ),
        }
    }

    /// The answer to a request that the host stopped before its answer had begun.
    fn stopped(&self, control: &Control, stop: Stop) -> Failure {
        self.settings.observed.timeout();
        control.reporter.report_stop(stop);
        self.failure(stop)
    }

    /// The answer to a request whose component failed by itself. The trap and its backtrace are for the log alone.
    async fn explain(&self, control: &Control, error: &wasmtime::Error) -> Failure {
        let observed = &self.settings.observed;
        if let Some(stop) = failed_to_start(error) {
            match stop {
                Stop::NoPlace => observed.refuse(),
                _ => observed.trap(),
            }
            control.reporter.report_stop(stop);
            return self.failure(stop);
        }
        if let Some(code) = error_code(error) {
            control.reporter.report(Reported::ErrorCode, &code);
            return Failure::new(
                Code::ComponentError,
                format!(
                    "component {} answered with the error {code} instead of a response",
                    self.settings.id
                ),
            );
        }
        let starting = error.downcast_ref::<InstantiationError<Arc<Control>>>();
        let error = starting.map_or(error, |starting| &*starting.error);
        if error.is::<wasmtime::Trap>() || error.is::<wasmtime::WasmBacktrace>() {
            control.reporter.report_trap(error);
        } else {
            // A trap shows here as a missing answer if it ends the instance before the call: then who frees the instance has it.
            control.reporter.wait(TRAP_REPORT).await;
            control
                .reporter
                .report(Reported::NoAnswer, &format!("{error:#}"));
        }
        if control.memory_refused() {
            observed.timeout();
            return self.failure(Stop::Memory);
        }
        observed.trap();
        self.failed(control.request_id)
    }

    fn failed(&self, request_id: uuid::Uuid) -> Failure {
        Failure::new(
            Code::ComponentTrap,
            format!(
                "component {} failed; the reason is in the host's log under request {request_id}",
                self.settings.id
            ),
        )
    }
}

/// Why the host did not let an instance start, if that is what went wrong.
fn failed_to_start(error: &wasmtime::Error) -> Option<Stop> {
    error
        .downcast_ref::<InstantiationError<Arc<Control>>>()
        .and_then(|starting| starting.error.downcast_ref::<Stop>())
        .copied()
}

/// The error code of `wasi:http` that a component answered with, if that is what went wrong.
fn error_code(error: &wasmtime::Error) -> Option<String> {
    use wasmtime_wasi_http::{p2, p3};

    let code = error.downcast_ref::<p2::bindings::http::types::ErrorCode>();
    code.map(|code| format!("{code:?}")).or_else(|| {
        let code = error.downcast_ref::<p3::bindings::http::types::ErrorCode>();
        code.map(|code| format!("{code:?}"))
    })
}

/// Names the imports that nobody provides.
fn not_provided(id: &str, imports: &[String], error: &wasmtime::Error) -> anyhow::Error {
    let foreign: Vec<&str> = imports
        .iter()
        .map(String::as_str)
        .filter(|import| !import.starts_with("wasi:") && !Capabilities::is_restricted(import))
        .collect();
    if foreign.is_empty() {
        return anyhow::anyhow!(
            "component {id} imports something of WASI that this host does not provide; it provides WASI 0.2 and 0.3: {error:#}"
        );
    }
    anyhow::anyhow!(
        "component {id} imports {}, which this host does not provide; if another component does, name that one under [component.{id}.dependencies]",
        foreign.join(" and ")
    )
}

/// Tells the instance that its client has gone, unless the answer was complete by then.
pub(crate) struct ClientGuard(Option<Arc<Control>>);

impl ClientGuard {
    /// The instance has failed by itself: let it end, and report why.
    pub(super) fn keep_instance(&mut self) {
        self.0 = None;
    }

    /// The answer is complete.
    pub(crate) fn complete(&mut self) {
        if let Some(control) = self.0.take() {
            control.set_answered();
        }
    }

    /// The request, while its answer is not complete.
    pub(crate) fn control(&self) -> Option<&Control> {
        self.0.as_deref()
    }
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        if let Some(control) = &self.0 {
            control.client_gone();
        }
    }
}
