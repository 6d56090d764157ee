//! Plain HTTP: files on web servers.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use reqwest::Url;

/// How long a server may take to accept a connection, and to send the next piece.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What must arrive of a component within [`READ_TIMEOUT`], if it has not ended: less is as good as nothing.
pub(super) const PROGRESS: u64 = 64 << 10;

/// The client. Servers prove themselves by the certificate authorities that the system trusts.
pub(super) fn client() -> anyhow::Result<reqwest::Client> {
    crate::tls::use_ring();
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
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

/// The length, if the server tells, and the bytes of a file.
pub(super) async fn get(
    client: &reqwest::Client,
    url: &str,
) -> anyhow::Result<(
    Option<u64>,
    impl Stream<Item = anyhow::Result<Bytes>> + Unpin + use<>,
)> {
    let response = client
        .get(url)
        .send()
        .await
        .map_err(shown)
        .context("the server cannot be reached")?;
    let status = response.status();
    anyhow::ensure!(status.is_success(), "the server answered {status}");
    let length = response.content_length();
    let bytes = response
        .bytes_stream()
        .map(|piece| piece.map_err(shown).context(BROKE_OFF));
    Ok((length, bytes))
}
