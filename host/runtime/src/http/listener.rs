//! Connections: accepted up to a number, each within limits of time and size, and drained at the end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use super::timer::ConnectionTimer;

/// Bytes of a request's headers, all together. More is answered 431.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// A client that takes nothing of its answer for this long is cut off: it would hold its request's places for ever.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// An address that is bound but not served yet.
pub(super) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    /// Address and port.
    pub(crate) as_header: HeaderValue,
}

impl Client {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            address,
            as_header: HeaderValue::try_from(address.to_string())
                .unwrap_or(HeaderValue::from_static("")),
        }
    }
}

/// How a listener treats its clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// Connections open at once; the next client waits in the system's queue until one closes.
    pub(super) max_connections: usize,
    /// How long a client may take to send its request's headers, or leave a connection idle between two requests.
    pub(super) header_timeout: Duration,
    /// How long requests under way may go on after the stop signal.
    pub(super) shutdown_timeout: Duration,
}

impl Listener {
    /// Binds the address, which the setting `flag` chose.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub(super) async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}; choose another address with {flag}")
        })?;
        let address = listener
            .local_addr()
            .context("the listening socket has no address")?;
        Ok(Self { listener, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands requests to `handle` until `stop` is cancelled; then takes no more connections, and lets requests
    /// under way finish. Answers whether all of them did in time.
    pub(super) async fn serve<H, F, B>(
        self,
        limits: ConnectionLimits,
        stop: CancellationToken,
        handle: H,
    ) -> bool
    where
        H: Fn(Request<Incoming>, Client) -> F + Clone + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let connections = Arc::new(Semaphore::new(limits.max_connections));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&self.listener, &connections) => accepted,
            };
            let (stream, address, permit) = match accepted {
                Ok(accepted) => accepted,
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
            let service = service_fn(move |request| {
                let answer = handle(request, client.clone());
                async move { Ok::<_, Infallible>(answer.await) }
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
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, client = %address, "connection ended");
                }
                drop(permit);
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
    connections: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, Option<OwnedSemaphorePermit>)> {
    // Nobody closes the semaphore, so there always is a permit in the end.
    let permit = Arc::clone(connections).acquire_owned().await.ok();
    let (stream, client) = listener.accept().await?;
    // A client that has gone already is found out later.
    let _ = stream.set_nodelay(true);
    Ok((stream, client, permit))
}
