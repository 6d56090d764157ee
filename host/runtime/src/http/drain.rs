//! A request's body that is drained when its reader drops it early.
//!
//! Closing a connection while the client is still sending resets it, and a reset discards what the client has not read yet: the
//! response that says why its body was refused. So the rest of the body is read and discarded for a while.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// How long the rest of a body is read; a client that is still sending then is cut off. Clients that read the response while
/// they send stop at once; the others are not worth more bandwidth.
const LINGER: Duration = Duration::from_secs(10);

pub(crate) struct Drained {
    /// `None` once it is being drained.
    body: Option<Incoming>,
    /// Whether the client is sending the body. After `Expect: 100-continue` it does not until the body is read: there is nothing
    /// to drain.
    sending: bool,
}

impl Drained {
    pub(crate) fn new(body: Incoming, headers: &http::HeaderMap) -> Self {
        Self {
            body: Some(body),
            sending: !headers.contains_key(http::header::EXPECT),
        }
    }
}

impl Body for Drained {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.sending = true;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream());
        let Some(mut body) = rest.filter(|_| self.sending) else {
            return;
        };
        // Outside of the runtime, the connection is gone, too.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LINGER, async move {
                while let Some(Ok(_)) = body.frame().await {}
            }));
        }
    }
}
