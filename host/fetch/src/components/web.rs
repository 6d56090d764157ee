//! HTTP requests, and files on web servers.

use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, LOCATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode, Url};

use super::component::check_component;
use crate::download::{Body, BoxError, Source};
use crate::secrets::{without_secrets, without_user};

/// Time for a connection, and for the next piece of an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(30);

const MAX_REDIRECTS: usize = 10;

const UNREACHABLE: &str = "the server cannot be reached";

/// The client for requests through [`send`]. It trusts the certificate authorities of the system.
pub(super) fn client() -> anyhow::Result<Client> {
    built(builder().read_timeout(READ_TIMEOUT))
}

/// The same for uploads. It has no time limit for answers: reqwest's begins with the request, and a body may take longer to send.
pub(super) fn upload_client() -> anyhow::Result<Client> {
    built(builder())
}

fn builder() -> ClientBuilder {
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::none())
        .referer(false)
}

fn built(builder: ClientBuilder) -> anyhow::Result<Client> {
    crate::tls::use_ring();
    builder
        .build()
        .context("cannot set up TLS to fetch components")
}

/// An error for messages, without the secrets of its URL.
pub(super) fn shown(error: reqwest::Error) -> reqwest::Error {
    match error.url().cloned() {
        Some(url) => error.with_url(without_secrets(url)),
        None => error,
    }
}

/// Sends the request that `request` makes, and follows redirects: it makes another one for each. If there is no connection, the
/// error begins with `unreachable`.
///
/// Credentials go to the server of the request only. reqwest's own redirects would send them to another server that redirects
/// to itself.
pub(super) async fn send(
    client: &Client,
    request: impl Fn() -> RequestBuilder,
    unreachable: &'static str,
) -> anyhow::Result<Response> {
    let make = || request().build().map_err(shown);
    let mut request = make()?;
    let mut has_left = false;
    for _ in 0..=MAX_REDIRECTS {
        let (method, origin) = (request.method().clone(), request.url().origin());
        let response = match client.execute(request).await.map_err(shown) {
            Err(error) if error.is_connect() => {
                return Err(anyhow::Error::from(error).context(unreachable));
            }
            response => response?,
        };
        let Some(target) = redirect_target(&response)? else {
            return Ok(response);
        };
        let status = response.status();
        anyhow::ensure!(
            matches!(method, Method::GET | Method::HEAD) || matches!(status.as_u16(), 307 | 308),
            "the server redirects {method} with {status}; only 307 and 308 repeat it elsewhere"
        );
        has_left |= target.origin() != origin;
        request = make()?;
        if has_left {
            request.headers_mut().remove(AUTHORIZATION);
        }
        *request.url_mut() = target;
    }
    anyhow::bail!("the server redirected more than {MAX_REDIRECTS} times")
}

/// The target of a redirect. None if the answer is not one.
fn redirect_target(response: &Response) -> anyhow::Result<Option<Url>> {
    match response.status().as_u16() {
        301 | 302 | 303 | 307 | 308 => location(response),
        _ => Ok(None),
    }
}

/// Where an answer sends the client next. None if it does not.
pub(super) fn location(response: &Response) -> anyhow::Result<Option<Url>> {
    let Some(location) = response.headers().get(LOCATION) else {
        return Ok(None);
    };
    let from = response.url();
    let target = location.to_str().ok().and_then(|to| from.join(to).ok());
    let target = target.context("the server redirects to an invalid URL")?;
    anyhow::ensure!(
        target.scheme() == "https" || target.scheme() == "http" && from.scheme() == "http",
        "the server redirects to a URL without TLS"
    );
    Ok(Some(without_user(target)))
}

/// An answer that is not the file.
#[derive(Debug, thiserror::Error)]
#[error("the server answered {0}")]
struct Refused(StatusCode);

/// Returns whether a server that answers with this status may answer otherwise later.
pub(super) fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
}

/// Returns whether to send the request for a file again. Not after a timeout, which has taken long enough.
pub(super) fn is_transient(error: &anyhow::Error) -> bool {
    if let Some(Refused(status)) = error.downcast_ref() {
        return is_temporary(*status);
    }
    error
        .downcast_ref::<reqwest::Error>()
        .is_some_and(|error| match error.status() {
            Some(status) => is_temporary(status),
            None => error.is_connect() && !error.is_timeout(),
        })
}

/// Requests the part of a file from `offset` on.
pub(super) fn with_range(request: RequestBuilder, offset: u64) -> RequestBuilder {
    match offset {
        0 => request,
        offset => request.header(RANGE, format!("bytes={offset}-")),
    }
}

/// Returns whether the answer to [`with_range`] is that there is no such part.
pub(super) fn is_out_of_range(response: &Response, offset: u64) -> bool {
    offset > 0 && response.status() == StatusCode::RANGE_NOT_SATISFIABLE
}

/// The content of a successful answer to [`with_range`]. None if it is another part than the one that was requested.
pub(super) fn body(response: Response, offset: u64) -> Option<Body> {
    let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
    let length = response.content_length();
    if is_part {
        // RFC 9110, section 14.4: `bytes FIRST-LAST/SIZE`.
        let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
        let (first, _) = range.strip_prefix("bytes ")?.split_once('-')?;
        (first.parse() == Ok(offset)).then_some(())?;
    }
    let offset = if is_part { offset } else { 0 };
    let bytes = response
        .bytes_stream()
        .map(|piece| piece.map_err(|error| BoxError::from(shown(error))));
    Some(Body {
        offset,
        size: length.map(|length| offset + length),
        bytes: bytes.boxed(),
    })
}

/// A file on a web server.
pub(super) struct WebFile<'a> {
    pub(super) client: &'a Client,
    pub(super) url: &'a str,
}

impl Source for WebFile<'_> {
    type Error = anyhow::Error;

    async fn open(&mut self, offset: u64) -> anyhow::Result<Option<Body>> {
        let request = || with_range(self.client.get(self.url), offset);
        let response = send(self.client, request, UNREACHABLE).await?;
        if is_out_of_range(&response, offset) {
            return Ok(None);
        }
        let status = response.status();
        if !status.is_success() {
            return Err(Refused(status).into());
        }
        Ok(body(response, offset))
    }

    fn is_transient(error: &anyhow::Error) -> bool {
        is_transient(error)
    }

    fn check(head: &[u8]) -> anyhow::Result<()> {
        check_component(head)
    }
}
