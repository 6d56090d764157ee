//! The client of a running host's admin interface.

use anyhow::Context as _;
use clap::Args;
use fetch::{is_loopback, without_secrets};
use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Options of commands that call a running host.
#[derive(Args)]
pub struct Remote {
    /// Admin interface of the running host.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8001",
        env = "WHISPER_HOST_ADMIN"
    )]
    pub admin: String,

    /// Token of the admin interface.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "WHISPER_HOST_ADMIN_TOKEN",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub admin_token: Option<String>,

    /// Print the host's response as JSON.
    #[arg(long)]
    pub json: bool,
}

impl Remote {
    /// Sends a request below `/v1/components`, which `prepare` may extend. Returns the response as JSON, and parsed.
    ///
    /// # Errors
    /// When the host cannot be reached, or responds with an error.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        prepare: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<(Value, T)> {
        let response = self.send(method, path, prepare).await?;
        let json: Value = response
            .json()
            .await
            .context("the host's response is not JSON")?;
        let parsed =
            T::deserialize(&json).context("the host's response does not have the expected form")?;
        Ok((json, parsed))
    }

    /// Like [`call`](Self::call), without reading the response.
    ///
    /// # Errors
    /// When the host cannot be reached, or responds with an error.
    pub async fn send(
        &self,
        method: Method,
        path: &[&str],
        prepare: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<Response> {
        let invalid = || format!("{} is not a URL", self.admin);
        let mut url = Url::parse(&self.admin).with_context(invalid)?;
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!(invalid()))?
            .pop_if_empty()
            .extend(["v1", "components"])
            .extend(path);
        let client = client_for(&url)?;
        let mut request = prepare(client.request(method, url.clone()));
        if let Some(token) = &self.admin_token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.with_context(|| {
            format!("cannot reach a host at {}; start one with `whisper-host up`, or name it with --admin", self.admin)
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if let Some(target) = redirect_target(&response) {
            anyhow::bail!(
                "{} redirects to {target}; give --admin the address of the admin interface itself",
                self.admin
            );
        }
        let error: Value = response.json().await.unwrap_or_default();
        match error["error"]["message"].as_str() {
            Some(message) => anyhow::bail!("{message}"),
            None => anyhow::bail!("{url} answered {status}"),
        }
    }
}

/// Returns a client for requests to a host.
///
/// # Errors
/// When TLS cannot be set up.
pub fn client_for(url: &Url) -> anyhow::Result<reqwest::Client> {
    // Requests to this machine bypass the environment's proxy, which could be on another machine and must not see the token. Nor must
    // a server that this one redirects to.
    let mut client = reqwest::Client::builder().redirect(Policy::none());
    if url.host_str().is_some_and(is_loopback) {
        client = client.no_proxy();
    }
    fetch::use_ring();
    client.build().context("cannot set up TLS")
}

/// Where a redirect leads, without what may be secret.
fn redirect_target(answer: &Response) -> Option<Url> {
    let location = answer.headers().get(LOCATION)?.to_str().ok()?;
    let target = answer.url().join(location).ok()?;
    answer
        .status()
        .is_redirection()
        .then(|| without_secrets(target))
}
