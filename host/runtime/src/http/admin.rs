//! The admin interface: what is served, and how it is changed. On a listener of its own.
//!
//! | request | does |
//! |---|---|
//! | `GET /v1/components` | lists all components with their figures |
//! | `GET /v1/components/ID` | one of them, with its revisions |
//! | `PUT /v1/components/ID?route=…` | deploys the body, a component, as a new revision |
//! | `POST /v1/components/ID/rollback?revision=N` | serves an earlier revision |
//! | `DELETE /v1/components/ID` | takes a deployed component out |
//! | `GET /v1/components/ID/logs?follow=true` | what it printed, one JSON object a line |
//!
//! Answers and errors have the form of the public listener's. Where a token is set, every request needs
//! `Authorization: Bearer TOKEN`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::body::Incoming;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::answer::{json_answer, to_answer};
use super::drain::Drained;
use super::is_loopback;
use super::listener::{Client, ConnectionLimits, Listener};
use crate::deployment::{DeployError, Deployed, Deployments, RevisionSettings};
use crate::engine::figures::Line;
use crate::error::{Code, Failure};
use crate::sources::MAX_COMPONENT;
use crate::{Application, ComponentReport};

/// The admin listener, bound but not serving yet.
pub struct Admin {
    listener: Listener,
    shared: Arc<Shared>,
}

struct Shared {
    deployments: Arc<Deployments>,
    /// Digest of the token. Digests are compared, so the time it takes tells nothing of the token.
    token: Option<[u8; 32]>,
    stop: CancellationToken,
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

impl Admin {
    /// Binds the address.
    ///
    /// # Errors
    /// When the address cannot be bound, or is not a loopback address and there is no token.
    pub async fn bind(
        address: SocketAddr,
        token: Option<&str>,
        deployments: Arc<Deployments>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(
            address.ip().is_loopback() || token.is_some(),
            "the admin interface may listen on {address} with a token only: whoever reaches it can run code; set WHISPER_HOST_ADMIN_TOKEN, or listen on 127.0.0.1"
        );
        anyhow::ensure!(token != Some(""), "the admin token is empty");
        let listener = Listener::bind(address, "--admin-listen").await?;
        let token = token.map(|token| Sha256::digest(token).into());
        Ok(Self {
            listener,
            shared: Arc::new(Shared {
                deployments,
                token,
                stop,
            }),
        })
    }

    /// The address it is bound to.
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
        let handle = move |request, client| Arc::clone(&shared).answer(request, client);
        if !self.listener.serve(limits, stop, handle).await {
            tracing::warn!("stopped with requests of the admin interface under way");
        }
    }
}

/// Without a token, whoever can connect from this machine may do everything; but a browser connects for any web page. It
/// tells of the page in `Origin`, or, where the page's name was made to lead here, in `Host`.
fn from_this_machine(request: &Parts) -> Result<(), Failure> {
    let host = request
        .headers
        .get(HOST)
        .and_then(|host| host.to_str().ok()?.parse::<http::uri::Authority>().ok());
    let is_local = host.is_some_and(|host| is_loopback(&host.host().to_ascii_lowercase()));
    if is_local && !request.headers.contains_key(ORIGIN) {
        return Ok(());
    }
    Err(Failure::new(
        Code::Forbidden,
        "without a token, the admin interface answers requests to localhost that no web page makes; set WHISPER_HOST_ADMIN_TOKEN"
            .into(),
    ))
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, client: Client) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = self.route(request).await.unwrap_or_else(|failure| {
            to_answer(&failure).map(|body| body.map_err(std::io::Error::other).boxed_unsync())
        });
        tracing::info!(
            http.request.method = %method,
            url.path = path,
            http.response.status_code = answer.status().as_u16(),
            client.address = %client.address.ip(),
            "admin request"
        );
        answer
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        let (request, body) = request.into_parts();
        // Whatever the answer is, a client that still sends is to get it.
        let body = Drained::new(body, &request.headers);
        self.authorize(&request)?;
        let query: Vec<(String, String)> =
            form_urlencoded::parse(request.uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let path = request.uri.path().trim_end_matches('/').to_owned();
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match (&request.method, &segments[..]) {
            (&Method::GET, ["v1", "components"]) => {
                none(&query)?;
                Ok(ok(&json!({"components": self.list()})))
            }
            (&Method::GET, ["v1", "components", id]) => {
                none(&query)?;
                self.show(id).map(|value| ok(&value))
            }
            (&Method::PUT, ["v1", "components", id]) => self.deploy(id, &query, body).await,
            (&Method::DELETE, ["v1", "components", id]) => {
                none(&query)?;
                self.deployments.remove(id).await.map_err(failure)?;
                Ok(ok(&json!({"id": id, "removed": true})))
            }
            (&Method::POST, ["v1", "components", id, "rollback"]) => {
                let revision = one(&query, "revision")?
                    .map(|value| value.parse().map_err(|_| bad("revision must be a number")))
                    .transpose()?;
                let revision = self.deployments.rollback(id, revision).await.map_err(failure)?;
                Ok(ok(&json!({"id": id, "revision": revision})))
            }
            (&Method::GET, ["v1", "components", id, "logs"]) => {
                let follow = match one(&query, "follow")? {
                    Some(value) => flag("follow", value)?,
                    None => false,
                };
                self.logs(id, follow)
            }
            _ => Err(Failure::new(
                Code::NotFound,
                "the admin interface has /v1/components, /v1/components/ID, and below the latter /rollback and /logs".into(),
            )),
        }
    }

    fn authorize(&self, request: &Parts) -> Result<(), Failure> {
        let Some(expected) = self.token else {
            return from_this_machine(request);
        };
        let given = request
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token);
        match given {
            Some(token) if <[u8; 32]>::from(Sha256::digest(token.trim())) == expected => Ok(()),
            Some(_) => Err(Failure::new(Code::Forbidden, "the token is not the right one".into())),
            None => Err(Failure::new(
                Code::Unauthorized,
                "send the admin token: `Authorization: Bearer TOKEN`, or set WHISPER_HOST_ADMIN_TOKEN for the command line".into(),
            )),
        }
    }

    fn list(&self) -> Vec<Value> {
        let record = self.deployments.record();
        let application = self.deployments.application().load_full();
        application
            .report()
            .iter()
            .map(|report| summary(report, record.components.get(&report.id)))
            .collect()
    }

    fn show(&self, id: &str) -> Result<Value, Failure> {
        let record = self.deployments.record();
        let application = self.deployments.application().load_full();
        let deployed = record.components.get(id);
        let mut value = match report_of(&application, id) {
            Some(report) => summary(&report, deployed),
            // Deployed, but it could not be loaded after a restart.
            None if deployed.is_some() => json!({"id": id, "loaded": false}),
            None => return Err(no_component(id, &application)),
        };
        if let Some(deployed) = deployed {
            value["revisions"] = json!(deployed.revisions);
        }
        Ok(value)
    }

    async fn deploy(
        &self,
        id: &str,
        query: &[(String, String)],
        body: Drained,
    ) -> Result<Response<Body>, Failure> {
        let settings = settings(query)?;
        let too_large = || {
            let message = format!("the component is larger than {} MiB", MAX_COMPONENT >> 20);
            Failure::new(Code::BodyTooLarge, message)
        };
        if body.size_hint().lower() > MAX_COMPONENT {
            return Err(too_large());
        }
        let wasm = Limited::new(body, usize::try_from(MAX_COMPONENT).unwrap_or(usize::MAX))
            .collect()
            .await
            .map_err(
                |error| match error.is::<http_body_util::LengthLimitError>() {
                    true => too_large(),
                    false => bad("the component did not arrive whole; send it again"),
                },
            )?;
        let revision = self
            .deployments
            .deploy(id, &wasm.to_bytes(), settings)
            .await
            .map_err(failure)?;
        Ok(ok(&json!({"id": id, "revision": revision})))
    }

    fn logs(&self, id: &str, follow: bool) -> Result<Response<Body>, Failure> {
        let application = self.deployments.application().load_full();
        let (lines, live) = application
            .lines(id)
            .ok_or_else(|| no_component(id, &application))?;
        let frame = |line: &Line| Ok(Frame::data(Bytes::from(format!("{}\n", json!(line)))));
        let kept = stream::iter(lines.iter().map(frame).collect::<Vec<_>>());
        let body = if follow {
            let to_come = stream::unfold(live, move |mut live| async move {
                loop {
                    match live.recv().await {
                        Ok(line) => return Some((frame(&line), live)),
                        // The reader is slower than the component prints: it is told by what comes next.
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return None,
                    }
                }
            });
            let stop = self.stop.clone();
            StreamBody::new(kept.chain(to_come).take_until(stop.cancelled_owned())).boxed_unsync()
        } else {
            StreamBody::new(kept).boxed_unsync()
        };
        let mut response = Response::new(body);
        let kind = http::HeaderValue::from_static("application/x-ndjson");
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, kind);
        Ok(response)
    }
}

/// The settings of a revision, from the query of its deployment. Each parameter may be given more than once, apart from
/// `route`, `timeseries` and `health`; each name of a variable or an import once.
fn settings(query: &[(String, String)]) -> Result<RevisionSettings, Failure> {
    let mut settings = RevisionSettings::default();
    for (index, (name, value)) in query.iter().enumerate() {
        let once = ["route", "timeseries", "health"].contains(&name.as_str());
        if once && query[..index].iter().any(|(other, _)| other == name) {
            return Err(twice(name));
        }
        let value = value.clone();
        let pair = || {
            value
                .split_once('=')
                .map(|(left, right)| (left.to_owned(), right.to_owned()))
                .ok_or_else(|| {
                    bad(&format!(
                        "{name}: \"{value}\" is not of the form NAME=VALUE"
                    ))
                })
        };
        match name.as_str() {
            "route" => settings.route = value,
            "health" => settings.health = Some(value),
            "timeseries" => settings.timeseries = flag(name, &value)?,
            "allow_host" => settings.allowed_outbound_hosts.push(value),
            "ai_model" => settings.ai_models.push(value),
            "env" => insert(name, &mut settings.environment, pair()?)?,
            "dependency" => insert(name, &mut settings.dependencies, pair()?)?,
            _ => {
                return Err(bad(&format!(
                    "unknown parameter {name}; there are route, allow_host, ai_model, env, timeseries, dependency, health"
                )));
            }
        }
    }
    if settings.route.is_empty() {
        return Err(bad(
            "the parameter `route` is missing: the path that the component is to serve",
        ));
    }
    Ok(settings)
}

fn insert(
    parameter: &str,
    to: &mut BTreeMap<String, String>,
    (name, value): (String, String),
) -> Result<(), Failure> {
    if to.contains_key(&name) {
        return Err(twice(&format!("{parameter}={name}")));
    }
    to.insert(name, value);
    Ok(())
}

/// The value of the only parameter that there may be.
fn one<'a>(query: &'a [(String, String)], known: &str) -> Result<Option<&'a str>, Failure> {
    match query {
        [] => Ok(None),
        [(name, value)] if name == known => Ok(Some(value)),
        _ => match query.iter().find(|(name, _)| name != known) {
            Some((name, _)) => Err(bad(&format!("unknown parameter {name}; there is {known}"))),
            None => Err(twice(known)),
        },
    }
}

fn none(query: &[(String, String)]) -> Result<(), Failure> {
    match query.first() {
        Some((name, _)) => Err(bad(&format!(
            "unknown parameter {name}; there is none here"
        ))),
        None => Ok(()),
    }
}

fn flag(name: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(bad(&format!(
            "{name}: \"{value}\" is neither true nor false"
        ))),
    }
}

fn twice(name: &str) -> Failure {
    bad(&format!("the parameter {name} is given twice"))
}

fn report_of(application: &Application, id: &str) -> Option<ComponentReport> {
    application
        .report()
        .into_iter()
        .find(|report| report.id == id)
}

fn summary(report: &ComponentReport, deployed: Option<&Deployed>) -> Value {
    json!({
        "id": report.id,
        "loaded": true,
        "deployed": deployed.is_some(),
        "revision": deployed.map(|deployed| deployed.current),
        "routes": report.routes,
        "handler": report.handler.to_string(),
        "grants": report.grants,
        "figures": report.figures,
    })
}

fn no_component(id: &str, application: &Application) -> Failure {
    let ids: Vec<String> = application
        .report()
        .into_iter()
        .map(|report| report.id)
        .collect();
    Failure::new(
        Code::NotFound,
        format!("there is no component {id}; there are {}", ids.join(", ")),
    )
}

fn bad(message: &str) -> Failure {
    Failure::new(Code::BadRequest, message.to_owned())
}

fn failure(error: DeployError) -> Failure {
    let code = match &error {
        DeployError::Refused(_) => Code::Refused,
        DeployError::NotFound(_) => Code::NotFound,
        DeployError::Failed(_) => Code::Internal,
    };
    Failure::new(code, error.to_string())
}

fn ok(value: &Value) -> Response<Body> {
    json_answer(StatusCode::OK, value.to_string())
        .map(|body| body.map_err(std::io::Error::other).boxed_unsync())
}
