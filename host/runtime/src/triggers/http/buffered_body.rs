//! A body whose first frames can be buffered before it is read.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty};
use wasmtime_wasi_http::{Error, WasiBody};

/// A body whose first frames can be buffered before it is read.
pub(super) struct BufferedBody {
    pub(super) buffered: VecDeque<Result<Frame<Bytes>, Error>>,
    pub(super) rest: WasiBody,
}

impl BufferedBody {
    pub(super) fn new(body: WasiBody) -> Self {
        Self {
            buffered: VecDeque::new(),
            rest: body,
        }
    }

    /// Waits for the first frame, or the end. Returns whether either came in time.
    pub(super) async fn wait_for_first(&mut self, timeout: Duration) -> bool {
        if !self.buffered.is_empty() || self.rest.is_end_stream() {
            return true;
        }
        tokio::time::timeout(timeout, self.buffer_next())
            .await
            .is_ok()
    }

    /// Buffers one more frame, and returns its length in bytes. After the end or an error, there are no more.
    pub(super) async fn buffer_next(&mut self) -> usize {
        let frame = self.rest.frame().await;
        let length = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => {
                self.rest = empty();
                0
            }
        };
        self.buffered.extend(frame);
        length
    }
}

pub(super) fn empty() -> WasiBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

impl Body for BufferedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(frame) = self.buffered.pop_front() {
            return Poll::Ready(Some(frame));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.buffered.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.rest.size_hint();
        let buffered = self.buffered.iter().flatten().filter_map(Frame::data_ref);
        let buffered = buffered.map(|data| data.len() as u64).sum();
        if self.buffered.iter().any(Result::is_err) {
            // With an exact size, a reader would stop before the error.
            hint = SizeHint::new();
        }
        // The lower bound may not be above the upper one.
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(buffered));
        }
        hint.set_lower(hint.lower().saturating_add(buffered));
        hint
    }
}
