//! Connections: accepted up to a number, each within limits of time and size, and drained at the end.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
#[cfg(target_os = "linux")]
use tokio_util::task::AbortOnDropHandle;

use super::clients::network;
use super::connections::{Connections, Open};
use super::timer::ConnectionTimer;
use crate::timer::SharedTimer;

/// Bytes of a request's headers, all together. More is answered 431.
pub(crate) const MAX_HEADER_BYTES: usize = 64 << 10;
/// A client that takes nothing of its answer for this long is cut off: it would hold its request's places for ever.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// An address that is bound but not served yet.
pub(crate) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

/// The other end of a connection.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    /// What tells clients apart.
    pub(crate) network: IpAddr,
    /// Address and port.
    pub(crate) as_header: HeaderValue,
    pub(crate) timer: SharedTimer,
}

impl Client {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            address,
            network: network(address.ip()),
            as_header: HeaderValue::try_from(address.to_string())
                .unwrap_or(HeaderValue::from_static("")),
            timer: SharedTimer::default(),
        }
    }
}

/// How a listener treats its clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// Connections open at once. Where one more client comes, an idle one is closed; if none is idle, it waits in the system's queue.
    pub(crate) max_connections: usize,
    /// Connections of one client; if none of them is idle, one more is closed at once.
    pub(crate) max_connections_per_client: usize,
    /// How long a client may take to send its request's headers, or leave a connection idle between two requests.
    pub(crate) header_timeout: Duration,
    /// How long requests under way may go on after the stop signal.
    pub(crate) shutdown_timeout: Duration,
}

impl Listener {
    /// Binds the address, which the setting `flag` chose.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub(crate) async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}; choose another address with {flag}")
        })?;
        let address = listener
            .local_addr()
            .context("the listening socket has no address")?;
        Ok(Self { listener, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands requests to `handle` until `stop` is cancelled; then takes no more connections, and lets requests
    /// under way finish. Returns whether all of them did in time.
    pub(crate) async fn serve<H, F, B>(
        self,
        limits: ConnectionLimits,
        stop: CancellationToken,
        handle: H,
    ) -> bool
    where
        H: Fn(Request<Incoming>, Client) -> F + Clone + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let connections =
            Connections::new(limits.max_connections, limits.max_connections_per_client);
        #[cfg(target_os = "linux")]
        let _watch = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&connections).watch()));
        let graceful = GracefulShutdown::new();
        let mut warned: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&self.listener, &connections) => accepted,
            };
            let (stream, address, open) = match accepted {
                Ok((stream, address, Some(open))) => (stream, address, Arc::new(open)),
                Ok((_, address, None)) => {
                    // Of a client that tries again and again, one line in ten seconds will do.
                    let now = Instant::now();
                    if warned.is_none_or(|last| now - last >= Duration::from_secs(10)) {
                        warned = Some(now);
                        tracing::warn!(
                            client.address = %address.ip(),
                            limit = limits.max_connections_per_client,
                            "connections are refused: the client has a request under way on each of as many as it may have"
                        );
                    }
                    continue;
                }
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to be freed rather than spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(WRITE_TIMEOUT));
            let handle = handle.clone();
            let client = Client::at(address);
            let id = open.id;
            let service = service_fn(move |request| {
                let busy = open.busy();
                let answer = handle(request, client.clone());
                async move { Ok::<_, Infallible>(answer.await.map(|body| busy.until_sent(body))) }
            });
            let connection = http1::Builder::new()
                .timer(ConnectionTimer::default())
                .header_read_timeout(limits.header_timeout)
                .max_buf_size(MAX_HEADER_BYTES)
                // hyper answers 431 to more than 100 headers; any other number would cost it an allocation for each request.
                // Most answers are small: one buffer for head and body costs less than a vectored write.
                .writev(false)
                .serve_connection(TokioIo::new(Box::pin(stream)), service);
            let connection = graceful.watch(connection);
            connections.spawn(id, async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, client = %address, "connection ended");
                }
            });
        }
        drop(self.listener);
        tokio::time::timeout(limits.shutdown_timeout, graceful.shutdown())
            .await
            .is_ok()
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Connections>,
) -> std::io::Result<(TcpStream, SocketAddr, Option<Open>)> {
    connections.room().await;
    let (stream, client) = listener.accept().await?;
    // A client that has gone already is found out later.
    let _ = stream.set_nodelay(true);
    let open = connections.admit(client, &stream)?;
    Ok((stream, client, open))
}
