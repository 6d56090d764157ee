//! The body of an answer, watched for its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use wasmtime_wasi_http::{Error, WasiBody};

use super::guard::ClientGuard;
use super::peeked::Peeked;
use crate::invocation::Invocation;
use crate::timer::SharedTimer;

/// How long the head of an answer is held back for its first byte: a component that fails right after the head can still be
/// answered for.
const FIRST_BYTE: Duration = Duration::from_millis(100);

/// The body of an answer: the host's own text, or what a component streams.
pub struct AnswerBody(Inner);

enum Inner {
    Host(Full<Bytes>),
    Guest {
        body: Peeked,
        guard: ClientGuard,
        /// Bytes that are still to come, where the answer has said how many it has: the server stops asking after them.
        left: Option<u64>,
    },
}

impl AnswerBody {
    pub(crate) fn host(text: String) -> Self {
        Self(Inner::Host(Full::from(text)))
    }

    /// The body of a component's answer to a request of this method; none if the instance failed before the first byte.
    pub(super) async fn guest(
        answer: Response<WasiBody>,
        method: &Method,
        mut guard: ClientGuard,
        timer: &SharedTimer,
    ) -> Option<Response<Self>> {
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
        let mut answer = answer.map(Peeked::new);
        if left != Some(0) {
            let body = answer.body_mut();
            body.peek(FIRST_BYTE, timer).await;
            let broken = match body.taken.front() {
                Some(first) => first.is_err(),
                // The body of an instance that is gone ends as if it were complete.
                None => {
                    body.is_end_stream() && guard.invocation().is_some_and(Invocation::has_failed)
                }
            };
            if broken {
                guard.keep_instance();
                return None;
            }
        }
        if answer.body().is_end_stream() || left == Some(0) {
            guard.complete();
        }
        Some(answer.map(|body| Self(Inner::Guest { body, guard, left })))
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
                if frame.is_none() && guard.invocation().is_some_and(Invocation::has_failed) {
                    frame = Some(Err(Error::HttpResponseIncomplete));
                }
                match &frame {
                    // The connection is about to be cut, which is all a client can be told by now.
                    Some(Err(error)) => {
                        if let Some(invocation) = guard.invocation() {
                            invocation.report_broken_answer(error);
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
