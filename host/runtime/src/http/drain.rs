//! A request's body that is read to its end, whoever stops reading it before.
//!
//! A connection that is closed while the client still sends is reset, and a reset takes with it what the client has not
//! read yet: the answer that says why its body was not wanted. So what is left is read and thrown away for a while.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// How long the rest of a body is read for; a client that still sends then is cut off. Clients that look at the answer
/// while they send stop at once; the others are worth no more of the host's bandwidth.
const LINGER: Duration = Duration::from_secs(10);

pub(crate) struct Drained {
    /// None once it is being drained.
    body: Option<Incoming>,
    /// Whether the client sends the body without being asked to: not when it said `Expect: 100-continue` and nobody has
    /// read yet. Then it waits for the answer, and has nothing to be drained.
    sends: bool,
}

impl Drained {
    pub(crate) fn new(body: Incoming, headers: &http::HeaderMap) -> Self {
        Self {
            body: Some(body),
            sends: !headers.contains_key(http::header::EXPECT),
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
        self.sends = true;
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
        let Some(mut body) = rest.filter(|_| self.sends) else {
            return;
        };
        // Outside of the scheduler the connection is gone, too.
        if let Ok(scheduler) = tokio::runtime::Handle::try_current() {
            scheduler.spawn(tokio::time::timeout(LINGER, async move {
                while let Some(Ok(_)) = body.frame().await {}
            }));
        }
    }
}
