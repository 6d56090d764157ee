//! The server of the admin interface: shows what is served, and changes it.
//!
//! | request | effect |
//! |---|---|
//! | `GET /v1/components` | lists all components with their metrics |
//! | `GET /v1/components/ID` | shows one component, with its revisions |
//! | `PUT /v1/components/ID?health=PATH` | deploys a component as a new revision: a form with `manifest` and `component` |
//! | `POST /v1/components/ID/rollback?revision=N` | serves an earlier revision |
//! | `DELETE /v1/components/ID` | removes a deployed component |
//! | `GET /metrics` | returns the host's metrics in Prometheus' text format |
//! | `GET /v1/components/ID/logs?follow=true` | returns what it printed, one JSON object per line |
//!
//! Errors have the same form as on the public listener. If a token is set, every request needs `Authorization: Bearer TOKEN`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{
    DefaultBodyLimit, FromRequest as _, FromRequestParts, Multipart, Path, Query, State,
};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use axum::response::{IntoResponse, Json};
use axum::routing::{get, post};
use fetch::components::MAX_COMPONENT;
use futures::StreamExt as _;
use futures::stream;
use http_body::Body as _;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::access::Access;
use super::api::{COMPONENT, Components, Details, MANIFEST, Removed, Serving, Summary};
use super::parameters::{Parameters, bad_request, boolean, none, optional};
use crate::application::{Application, ComponentReport};
use crate::deployment::{DeployError, Deployed, Deployments};
use crate::error::{Code, Failure};
use crate::http::{Client, ConnectionLimits, Drained, Listener, REQUEST_ID};
use crate::invocation::{Line, RequestIds};

/// The admin listener, bound but not serving yet.
pub struct Admin {
    listener: Listener,
    shared: Arc<Shared>,
}

struct Shared {
    deployments: Arc<Deployments>,
    access: Access,
    stop: CancellationToken,
}

impl Admin {
    /// Binds the address.
    ///
    /// # Errors
    /// When the address cannot be bound, or is not a loopback address while there is no token.
    pub async fn bind(
        address: SocketAddr,
        token: Option<&str>,
        deployments: Arc<Deployments>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(
            address.ip().is_loopback() || token.is_some(),
            "the admin interface may listen on {address} only with a token: anyone who reaches it can run code; set WHISPER_HOST_ADMIN_TOKEN, or listen on 127.0.0.1"
        );
        anyhow::ensure!(token != Some(""), "the admin token is empty");
        let listener = Listener::bind(address, "--admin-listen").await?;
        Ok(Self {
            listener,
            shared: Arc::new(Shared {
                deployments,
                access: Access::new(token),
                stop,
            }),
        })
    }

    /// Returns the bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Serves until the stop signal.
    pub async fn serve(self) {
        let limits = ConnectionLimits {
            max_connections: 64,
            max_connections_per_client: 32,
            header_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(5),
        };
        let (shared, stop) = (Arc::clone(&self.shared), self.shared.stop.clone());
        let router = router(Arc::clone(&shared));
        let handle =
            move |request, client| respond(Arc::clone(&shared), router.clone(), request, client);
        if !self.listener.serve(limits, stop, handle).await {
            tracing::warn!("stopped while requests of the admin interface were in flight");
        }
    }
}

/// Handles one request and logs it.
async fn respond(
    shared: Arc<Shared>,
    router: Router,
    request: Request<Incoming>,
    client: Client,
) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let mut log = RequestLog {
        ids: RequestIds::new(),
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        client: client.address.ip(),
        status: None,
    };
    // A client that is still sending must get the response, whatever it is.
    let body = Drained::new(body, &parts.headers);
    let mut response = match shared.access.check(&parts) {
        Ok(()) => {
            parts.uri = trim_slashes(&parts.uri);
            let request = Request::from_parts(parts, Body::new(body));
            match router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
        Err(failure) => failure.into_response(),
    };
    log.status = Some(response.status());
    if let Ok(id) = HeaderValue::try_from(log.ids.request.to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Logs a request when it is dropped: also one whose client has left.
struct RequestLog {
    ids: RequestIds,
    method: Method,
    path: String,
    client: IpAddr,
    /// Status of the response, if there is one.
    status: Option<StatusCode>,
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let message = match self.status {
            Some(_) => "admin request",
            None => "the client left before its admin request was answered",
        };
        tracing::info!(
            http.request.method = %self.method,
            url.path = self.path,
            http.response.status_code = self.status.map(|status| status.as_u16()),
            client.address = %self.client,
            request_id = %self.ids.request,
            trace_id = %self.ids.trace,
            "{message}"
        );
    }
}

/// Removes trailing slashes from the URI's path.
fn trim_slashes(uri: &http::Uri) -> http::Uri {
    let path = uri.path().trim_end_matches('/');
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    text.parse().unwrap_or_else(|_| uri.clone())
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/v1/components", get(list))
        .route("/v1/components/{id}", get(show).put(deploy).delete(remove))
        .route("/v1/components/{id}/rollback", post(rollback))
        .route("/v1/components/{id}/logs", get(logs))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_path)
        // Handlers bound bodies as they read them.
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

type ApiResult<T> = Result<T, Failure>;
type SharedState = State<Arc<Shared>>;

/// A component id from a path.
struct Id(String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(bad_request("the id in the path is not UTF-8")),
        }
    }
}

async fn no_such_path() -> Failure {
    Failure::new(
        Code::NotFound,
        "the admin interface has /metrics, /v1/components, /v1/components/ID, /v1/components/ID/rollback and /v1/components/ID/logs".into(),
    )
}

async fn metrics(State(shared): SharedState) -> ApiResult<impl IntoResponse> {
    telemetry::record_process();
    shared.deployments.record_space();
    let text = shared.deployments.host().metrics().render();
    let text = text.map_err(|error| Failure::new(Code::Internal, format!("{error:#}")))?;
    Ok(([(CONTENT_TYPE, telemetry::CONTENT_TYPE)], text))
}

async fn list(
    State(shared): SharedState,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Components>> {
    none(&parameters)?;
    let record = shared.deployments.record();
    let application = shared.deployments.application().load_full();
    let mut components: BTreeMap<String, Summary> = BTreeMap::new();
    for (id, deployed) in &record.components {
        let loaded = shared.deployments.is_served(id);
        components.insert(id.clone(), without_report(id, deployed, loaded));
    }
    for report in application.report() {
        let deployed = record.components.get(&report.id);
        components.insert(report.id.clone(), summary(report, deployed));
    }
    let components = components.into_values().collect();
    Ok(Json(Components { components }))
}

async fn show(
    State(shared): SharedState,
    Id(id): Id,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Details>> {
    none(&parameters)?;
    let record = shared.deployments.record();
    let application = shared.deployments.application().load_full();
    let deployed = record.components.get(&id);
    let report = application
        .report()
        .into_iter()
        .find(|report| report.id == id);
    let summary = match (report, deployed) {
        (Some(report), _) => summary(report, deployed),
        (None, Some(deployed)) => without_report(&id, deployed, shared.deployments.is_served(&id)),
        (None, None) => return Err(no_component(&id, &application)),
    };
    Ok(Json(Details {
        summary,
        revisions: deployed.map_or_else(Vec::new, |deployed| deployed.revisions.clone()),
    }))
}

async fn deploy(
    State(shared): SharedState,
    Id(id): Id,
    Query(parameters): Query<Parameters>,
    request: axum::extract::Request,
) -> ApiResult<Json<Serving>> {
    let health = optional(&parameters, "health")?.map(str::to_owned);
    // `MAX_MANIFEST` leaves room for the manifest and for the form's boundaries.
    if request.body().size_hint().lower() > MAX_COMPONENT + MAX_MANIFEST {
        return Err(too_large());
    }
    let form = Multipart::from_request(request, &()).await.map_err(|_| {
        bad_request("send a form with `manifest`, as JSON or TOML, and `component`, the bytes, like `whisper-host deploy`")
    })?;
    let (manifest, wasm) = parts(&id, form).await?;
    let deployed = shared.deployments.deploy(&id, &wasm, manifest, health);
    let revision = deployed.await.map_err(failure)?;
    Ok(Json(Serving { id, revision }))
}

/// Largest manifest that may come with a component, in bytes.
const MAX_MANIFEST: u64 = 1 << 20;

fn too_large() -> Failure {
    let message = format!("the component is larger than {} MiB", MAX_COMPONENT >> 20);
    Failure::new(Code::BodyTooLarge, message)
}

/// Reads the manifest and the bytes of a component from a form.
async fn parts(id: &str, mut form: Multipart) -> ApiResult<(Value, Vec<u8>)> {
    let incomplete = |_| bad_request("the component did not arrive completely; send it again");
    let (mut manifest, mut wasm) = (None, None);
    while let Some(mut field) = form.next_field().await.map_err(incomplete)? {
        let name = field.name().unwrap_or_default().to_owned();
        let limit = match name.as_str() {
            MANIFEST if manifest.is_none() => MAX_MANIFEST,
            COMPONENT if wasm.is_none() => MAX_COMPONENT,
            MANIFEST | COMPONENT => {
                return Err(bad_request(&format!("the part {name} is given twice")));
            }
            _ => {
                return Err(bad_request(&format!(
                    "unknown part {name}; the parts are manifest and component"
                )));
            }
        };
        let media_type = field.content_type().and_then(|kind| kind.split(';').next());
        let is_toml =
            media_type.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/toml"));
        let mut content = Vec::new();
        while let Some(piece) = field.chunk().await.map_err(incomplete)? {
            content.extend_from_slice(&piece);
            if content.len() as u64 > limit {
                return Err(match name.as_str() {
                    COMPONENT => too_large(),
                    _ => bad_request("the manifest is larger than 1 MiB"),
                });
            }
        }
        match name.as_str() {
            COMPONENT => wasm = Some(content),
            _ => manifest = Some(parse(&content, is_toml)?),
        }
    }
    let manifest = manifest.ok_or_else(|| {
        bad_request(&format!(
            "the part `manifest` is missing; it says what calls the component and what it may use, like {{\"component\": {{\"{id}\": {{}}}}, \"trigger\": {{\"http\": [{{\"route\": \"/{id}\", \"component\": \"{id}\"}}]}}}}"
        ))
    })?;
    let wasm = wasm.ok_or_else(|| {
        bad_request("the part `component` is missing; it has the component's bytes")
    })?;
    Ok((manifest, wasm))
}

fn parse(content: &[u8], is_toml: bool) -> ApiResult<Value> {
    let text =
        std::str::from_utf8(content).map_err(|_| bad_request("the manifest is not UTF-8"))?;
    match is_toml {
        true => toml::from_str(text)
            .map_err(|error| bad_request(&format!("the manifest is not TOML: {error}"))),
        false => serde_json::from_str(text)
            .map_err(|error| bad_request(&format!("the manifest is not JSON: {error}"))),
    }
}

async fn remove(
    State(shared): SharedState,
    Id(id): Id,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Removed>> {
    none(&parameters)?;
    shared.deployments.remove(&id).await.map_err(failure)?;
    Ok(Json(Removed { id, removed: true }))
}

async fn rollback(
    State(shared): SharedState,
    Id(id): Id,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Serving>> {
    let revision = optional(&parameters, "revision")?
        .map(|value| {
            value
                .parse()
                .map_err(|_| bad_request("revision must be a number"))
        })
        .transpose()?;
    let revision = shared.deployments.rollback(&id, revision).await;
    let revision = revision.map_err(failure)?;
    Ok(Json(Serving { id, revision }))
}

async fn logs(
    State(shared): SharedState,
    Id(id): Id,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Response<Body>> {
    let follow = match optional(&parameters, "follow")? {
        Some(value) => boolean("follow", value)?,
        None => false,
    };
    let application = shared.deployments.application().load_full();
    let (last, live) = application
        .lines(&id)
        .ok_or_else(|| no_component(&id, &application))?;
    let text = |line: &Line| serde_json::to_string(line).map(|text| format!("{text}\n"));
    let last = stream::iter(last.iter().map(text).collect::<Vec<_>>());
    let body = if follow {
        let live = stream::unfold(live, move |mut live| async move {
            loop {
                match live.recv().await {
                    Ok(line) => return Some((text(&line), live)),
                    // The reader is slower than the component prints: skip the lines it missed.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        let stop = shared.stop.clone();
        Body::from_stream(last.chain(live).take_until(stop.cancelled_owned()))
    } else {
        Body::from_stream(last)
    };
    let kind = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok((StatusCode::OK, kind, body).into_response())
}

fn summary(report: ComponentReport, deployed: Option<&Deployed>) -> Summary {
    Summary {
        id: report.id,
        loaded: true,
        deployed: deployed.is_some(),
        revision: deployed.map(|deployed| deployed.current),
        routes: report.routes,
        handler: Some(report.interfaces.join(", ")),
        grants: report.grants,
        metrics: Some(report.metrics),
    }
}

/// Describes a deployed component that no trigger leads to: it is private, or could not be loaded.
fn without_report(id: &str, deployed: &Deployed, loaded: bool) -> Summary {
    Summary {
        id: id.to_owned(),
        loaded,
        deployed: true,
        revision: Some(deployed.current),
        routes: Vec::new(),
        handler: None,
        grants: Vec::new(),
        metrics: None,
    }
}

fn no_component(id: &str, application: &Application) -> Failure {
    let report = application.report().into_iter();
    let ids: Vec<String> = report.map(|report| report.id).collect();
    Failure::new(
        Code::NotFound,
        format!("there is no component {id}; there are {}", ids.join(", ")),
    )
}

fn failure(error: DeployError) -> Failure {
    let code = match &error {
        DeployError::Refused(_) => Code::Refused,
        DeployError::NotFound(_) => Code::NotFound,
        DeployError::Failed(_) => Code::Internal,
    };
    Failure::new(code, error.to_string())
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response<Body> {
        let kind = [(CONTENT_TYPE, "application/json")];
        (self.code.parts().1, kind, self.json()).into_response()
    }
}
