//! Plain HTTP: files on web servers.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use reqwest::header::{AUTHORIZATION, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, Url};

/// How long a server may take to accept a connection, and to send the next piece.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What must arrive of a component within [`READ_TIMEOUT`], if it has not ended: less is as good as nothing.
pub(super) const PROGRESS: u64 = 64 << 10;

/// How often a server may say that what is asked for lies elsewhere.
const MAX_REDIRECTS: usize = 10;

/// The client, for requests through [`send`]. Servers prove themselves by the certificate authorities that the system trusts.
pub(super) fn client() -> anyhow::Result<Client> {
    crate::tls::use_ring();
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .redirect(Policy::none())
        .referer(false)
        .build()
        .context("cannot set up TLS to fetch components")
}

pub(super) const BROKE_OFF: &str = "the connection broke off; try again";

/// A URL for people and logs: without a password, and without the query, where signatures and tokens stand.
pub(super) fn without_secrets(mut url: Url) -> Url {
    // Both fail for a URL that cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url
}

/// An error for people and logs.
pub(super) fn shown(error: reqwest::Error) -> reqwest::Error {
    match error.url().cloned() {
        Some(url) => error.with_url(without_secrets(url)),
        None => error,
    }
}

/// Sends a request without a body, and follows redirects. What gives access goes to the server that was asked, and to no other:
/// reqwest itself sends it to a server that redirects once more to itself.
pub(super) async fn send(client: &Client, request: RequestBuilder) -> anyhow::Result<Response> {
    let mut request = request.build().map_err(shown)?;
    for _ in 0..=MAX_REDIRECTS {
        let again = request.try_clone();
        let response = client.execute(request).await.map_err(shown)?;
        let Some(target) = target(&response)? else {
            return Ok(response);
        };
        request = again.context("a request with a body was redirected")?;
        if target.origin() != request.url().origin() {
            request.headers_mut().remove(AUTHORIZATION);
        }
        *request.url_mut() = target;
    }
    anyhow::bail!("the server redirected more than {MAX_REDIRECTS} times")
}

/// Where a redirect leads; none if the answer is not one.
fn target(response: &Response) -> anyhow::Result<Option<Url>> {
    let location = match response.status().as_u16() {
        301 | 302 | 303 | 307 | 308 => response.headers().get(LOCATION),
        _ => None,
    };
    let Some(location) = location else {
        return Ok(None);
    };
    let from = response.url();
    let target = location.to_str().ok().and_then(|to| from.join(to).ok());
    let mut target = target.context("the server redirects to what is not a URL")?;
    anyhow::ensure!(
        target.scheme() == "https" || target.scheme() == "http" && from.scheme() == "http",
        "the server redirects to a URL without TLS"
    );
    // Both fail for a URL that cannot have them.
    let _ = target.set_username("");
    let _ = target.set_password(None);
    Ok(Some(target))
}

/// Whether no connection was made.
pub(super) fn is_connect(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<reqwest::Error>()
        .is_some_and(reqwest::Error::is_connect)
}

/// The length, if the server tells, and the bytes of a file.
pub(super) async fn get(
    client: &Client,
    url: &str,
) -> anyhow::Result<(
    Option<u64>,
    impl Stream<Item = anyhow::Result<Bytes>> + Unpin + use<>,
)> {
    let response =
        send(client, client.get(url))
            .await
            .map_err(|error| match is_connect(&error) {
                true => error.context("the server cannot be reached"),
                false => error,
            })?;
    let status = response.status();
    anyhow::ensure!(status.is_success(), "the server answered {status}");
    let length = response.content_length();
    let bytes = response
        .bytes_stream()
        .map(|piece| piece.map_err(shown).context(BROKE_OFF));
    Ok((length, bytes))
}
