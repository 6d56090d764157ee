//! Bodies: a request's, watched for its size and its pauses, and an answer's, watched for its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty, Full};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::component::ClientGuard;
use super::control::{Control, Stop};

/// The body of a request, from whichever trigger.
pub(crate) struct RequestBody(WasiBody);

impl RequestBody {
    /// A body as it comes from a client.
    pub(crate) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::fmt::Display,
    {
        if body.is_end_stream() {
            return Self(Empty::new().map_err(|never| match never {}).boxed_unsync());
        }
        Self(
            body.map_err(|error| {
                tracing::debug!(%error, "the client's body broke off");
                Error::ConnectionTerminated
            })
            .boxed_unsync(),
        )
    }

    /// The body, with an end put to it when it exceeds `limit` bytes or pauses for longer than `idle`.
    pub(crate) fn watched(self, control: &Arc<Control>, limit: u64, idle: Duration) -> WasiBody {
        if self.0.is_end_stream() {
            return self.0;
        }
        Watched {
            body: self.0,
            left: limit,
            idle,
            pause: None,
            control: Arc::clone(control),
        }
        .boxed_unsync()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

struct Watched {
    body: WasiBody,
    left: u64,
    idle: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    control: Arc<Control>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            // The pause is measured only while the reader waits: a component that reads slowly is its own affair.
            this.pause = None;
            let Some(frame) = frame else {
                return Poll::Ready(None);
            };
            let frame = frame?;
            if let Some(data) = frame.data_ref() {
                match this.left.checked_sub(data.len() as u64) {
                    Some(left) => this.left = left,
                    None => {
                        this.control.note(Stop::BodyTooLarge);
                        return Poll::Ready(Some(Err(Error::HttpRequestBodySize(None))));
                    }
                }
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        let idle = this.idle;
        let pause = this
            .pause
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        ready!(pause.as_mut().poll(cx));
        this.control.note(Stop::BodyIdle);
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer: the host's own text, or what a component streams.
pub struct AnswerBody(Inner);

enum Inner {
    Host(Full<Bytes>),
    Guest {
        body: WasiBody,
        guard: ClientGuard,
        /// Bytes that are still to come, where the answer has said how many it has: the server stops asking after them.
        left: Option<u64>,
    },
}

impl AnswerBody {
    pub(crate) fn host(text: String) -> Self {
        Self(Inner::Host(Full::from(text)))
    }

    /// The body of a component's answer to a request of this method.
    pub(crate) fn guest(
        answer: Response<WasiBody>,
        method: &Method,
        mut guard: ClientGuard,
    ) -> Response<Self> {
        let bodiless = matches!(
            answer.status(),
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        let left = match method == Method::HEAD || bodiless {
            true => Some(0),
            false => answer
                .headers()
                .get(CONTENT_LENGTH)
                .and_then(|length| length.to_str().ok()?.parse().ok()),
        };
        if answer.body().is_end_stream() || left == Some(0) {
            guard.complete();
        }
        answer.map(|body| Self(Inner::Guest { body, guard, left }))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.0 {
            Inner::Host(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Inner::Guest { body, guard, left } => {
                let mut frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                // The body of an instance that is gone ends as if it were complete.
                if frame.is_none() && guard.control().is_some_and(Control::failed) {
                    frame = Some(Err(Error::HttpResponseIncomplete));
                }
                match &frame {
                    // The connection is about to be cut, which is all a client can be told by now.
                    Some(Err(error)) => {
                        let (stop, request_id) =
                            guard.control().map(|c| (c.stop(), c.request_id)).unzip();
                        tracing::warn!(
                            %error,
                            stop = stop.flatten().map(tracing::field::debug),
                            request_id = request_id.map(tracing::field::display),
                            "the answer broke off"
                        );
                    }
                    Some(Ok(frame)) => {
                        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                        *left = left.map(|left| left.saturating_sub(length));
                        if *left == Some(0) || body.is_end_stream() {
                            guard.complete();
                        }
                    }
                    None => guard.complete(),
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Host(body) => body.is_end_stream(),
            Inner::Guest { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Host(body) => body.size_hint(),
            Inner::Guest { body, .. } => body.size_hint(),
        }
    }
}
