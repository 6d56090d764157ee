//! The body of a response, which tracks its completion.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use wasmtime_wasi_http::{Error, WasiBody};

use super::buffered_body::BufferedBody;
use super::guard::ClientGuard;
use crate::invocation::Invocation;

/// How long the head of a response is held back for the first byte of its body: if the component fails right after the head, the
/// host can still respond with an error.
const FIRST_BYTE: Duration = Duration::from_millis(100);

/// The body of a response: the host's own text, or what a component streams.
pub struct ResponseBody(Inner);

enum Inner {
    Host(Full<Bytes>),
    Guest {
        body: BufferedBody,
        guard: ClientGuard,
        /// Bytes left, if the response has a Content-Length: the server does not poll further.
        left: Option<u64>,
    },
}

impl ResponseBody {
    pub(crate) fn host(text: String) -> Self {
        Self(Inner::Host(Full::from(text)))
    }

    /// Wraps the body of a component's response to a request with this method; `None` if the instance failed before the first byte.
    pub(super) async fn guest(
        response: Response<WasiBody>,
        method: &Method,
        mut guard: ClientGuard,
    ) -> Option<Response<Self>> {
        let bodiless = matches!(
            response.status(),
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        let left = match method == Method::HEAD || bodiless {
            true => Some(0),
            false => response
                .headers()
                .get(CONTENT_LENGTH)
                .and_then(|length| length.to_str().ok()?.parse().ok()),
        };
        let mut response = response.map(BufferedBody::new);
        if left != Some(0) {
            let body = response.body_mut();
            body.wait_for_first(FIRST_BYTE).await;
            let broken = match body.buffered.front() {
                Some(first) => first.is_err(),
                // The body of a failed instance ends as if it were complete.
                None => {
                    body.is_end_stream() && guard.invocation().is_some_and(Invocation::has_failed)
                }
            };
            if broken {
                guard.disarm();
                return None;
            }
        }
        if response.body().is_end_stream() || left == Some(0) {
            guard.complete();
        }
        Some(response.map(|body| Self(Inner::Guest { body, guard, left })))
    }
}

impl Body for ResponseBody {
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
                // The body of a failed instance ends as if it were complete.
                if frame.is_none() && guard.invocation().is_some_and(Invocation::has_failed) {
                    frame = Some(Err(Error::HttpResponseIncomplete));
                }
                match &frame {
                    // The connection is about to be closed; by now, there is no other way to tell the client.
                    Some(Err(error)) => {
                        if let Some(invocation) = guard.invocation() {
                            invocation.report_incomplete_response(error);
                        }
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
