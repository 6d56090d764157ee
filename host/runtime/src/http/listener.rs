//! Accepts connections up to a limit, each with limits on time and size, and drains them at shutdown.

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
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
#[cfg(target_os = "linux")]
use tokio_util::task::AbortOnDropHandle;

use super::clients::network;
use super::connections::{Connections, OpenConnection};

/// Size limit of a request's headers in total, in bytes. Larger ones get 431.
pub(crate) const MAX_HEADER_BYTES: usize = 64 << 10;
/// A client that reads nothing of its response for this long is disconnected; otherwise it would hold its permits forever.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A listener that is bound but not serving yet.
pub(crate) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

/// The client of a connection.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    /// What identifies the client; see [`network`].
    pub(crate) network: IpAddr,
    /// Address and port, as a header value.
    pub(crate) as_header: HeaderValue,
}

impl Client {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            address,
            network: network(address.ip()),
            as_header: HeaderValue::try_from(address.to_string())
                .unwrap_or(HeaderValue::from_static("")),
        }
    }
}

/// Limits on a listener's connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// Open connections. At the limit, an idle one is closed for a new one; if none is idle, the new one waits in the system's
    /// queue.
    pub(crate) max_connections: usize,
    /// Open connections of one client. At the limit, if none of them is idle, a new one is closed at once.
    pub(crate) max_connections_per_client: usize,
    /// How long a client may take to send a request's headers, or leave a connection idle between two requests.
    pub(crate) header_timeout: Duration,
    /// How long requests in flight may go on after the stop signal.
    pub(crate) shutdown_timeout: Duration,
}

impl Listener {
    /// Binds the address, which is set by the option `flag`.
    ///
    /// # Errors
    /// When the address is in use or does not belong to this machine.
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

    /// Passes requests to `handle` until `stop` is cancelled; then accepts no more connections, and lets requests in flight
    /// finish. Returns whether all of them did in time.
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
                    // At most one warning in ten seconds: the client may retry in a loop.
                    let now = Instant::now();
                    if warned.is_none_or(|last| now - last >= Duration::from_secs(10)) {
                        warned = Some(now);
                        tracing::warn!(
                            client.address = %address.ip(),
                            limit = limits.max_connections_per_client,
                            "refused a connection: the client is at its limit, and all its connections are busy"
                        );
                    }
                    continue;
                }
                Err(error) => {
                    // Most likely out of file descriptors: wait for some to be freed instead of spinning.
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
                let response = handle(request, client.clone());
                async move { Ok::<_, Infallible>(response.await.map(|body| busy.track(body))) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_timeout)
                .max_buf_size(MAX_HEADER_BYTES)
                // hyper responds 431 to more than 100 headers; any other limit would cost an allocation per request.
                // Most responses are small: one buffer for head and body costs less than a vectored write.
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
) -> std::io::Result<(TcpStream, SocketAddr, Option<OpenConnection>)> {
    connections.wait_for_room().await;
    let (stream, client) = listener.accept().await?;
    // Fails if the client has disconnected already, which is noticed later.
    let _ = stream.set_nodelay(true);
    let open = connections.admit(client, &stream)?;
    Ok((stream, client, open))
}
