//! The client of a running host's admin interface.

use anyhow::Context as _;
use clap::Args;
use fetch::is_loopback;
use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Which running host, and the form of the answer.
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

    /// Print the host's answer as JSON.
    #[arg(long)]
    pub json: bool,
}

impl Remote {
    /// Sends a request below `/v1/components`, which `prepare` may add to, and reads its answer: the host's own, and what it means.
    ///
    /// # Errors
    /// What the host says, or that it cannot be reached.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        prepare: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<(Value, T)> {
        let answer = self.send(method, path, prepare).await?;
        let json: Value = answer
            .json()
            .await
            .context("the host's answer is not JSON")?;
        let meant =
            T::deserialize(&json).context("the host's answer has another form than expected")?;
        Ok((json, meant))
    }

    /// The same, without reading the answer.
    ///
    /// # Errors
    /// What the host says, or that it cannot be reached.
    pub async fn send(
        &self,
        method: Method,
        path: &[&str],
        prepare: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<Response> {
        let wrong = || format!("{} is not a URL", self.admin);
        let mut url = Url::parse(&self.admin).with_context(wrong)?;
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!(wrong()))?
            .pop_if_empty()
            .extend(["v1", "components"])
            .extend(path);
        // A proxy of the environment leads to other machines, and is not to see the token on its way to this one. Nor
        // is a server that this one redirects to.
        let mut client = reqwest::Client::builder().redirect(Policy::none());
        if url.host_str().is_some_and(is_loopback) {
            client = client.no_proxy();
        }
        fetch::use_ring();
        let client = client.build().context("cannot set up TLS")?;
        let mut request = prepare(client.request(method, url.clone()));
        if let Some(token) = &self.admin_token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.with_context(|| {
            format!("cannot reach a host at {}; start one with `whisper-host up`, or name it with --admin", self.admin)
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        if let Some(target) = redirect_target(&answer) {
            anyhow::bail!(
                "{} redirects to {target}; give --admin the address of the admin interface itself",
                self.admin
            );
        }
        let error: Value = answer.json().await.unwrap_or_default();
        match error["error"]["message"].as_str() {
            Some(message) => anyhow::bail!("{message}"),
            None => anyhow::bail!("{url} answered {status}"),
        }
    }
}

/// Where a redirect leads, without what may be secret.
fn redirect_target(answer: &Response) -> Option<Url> {
    let location = answer.headers().get(LOCATION)?.to_str().ok()?;
    let mut target = answer.url().join(location).ok()?;
    target.set_query(None);
    target.set_fragment(None);
    // Both fail for a URL that cannot have them.
    let _ = target.set_username("");
    let _ = target.set_password(None);
    answer.status().is_redirection().then_some(target)
}
