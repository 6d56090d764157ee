//! A body of which pieces may be taken before anyone reads it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::timer::SharedTimer;

/// A body of which pieces may be taken before anyone reads it.
pub(super) struct Peeked {
    pub(super) taken: VecDeque<Result<Frame<Bytes>, Error>>,
    pub(super) rest: WasiBody,
}

impl Peeked {
    pub(super) fn new(body: WasiBody) -> Self {
        Self {
            taken: VecDeque::new(),
            rest: body,
        }
    }

    /// Waits for the first piece, or the end. Whether one of both has come in time.
    pub(super) async fn peek(&mut self, within: Duration, timer: &SharedTimer) -> bool {
        if !self.taken.is_empty() || self.rest.is_end_stream() {
            return true;
        }
        timer.timeout(within, self.take()).await.is_some()
    }

    /// Takes one more piece, and gives its length in bytes. Nothing is left to be taken after the end, or an error.
    pub(super) async fn take(&mut self) -> usize {
        let piece = self.rest.frame().await;
        let length = match &piece {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => {
                self.rest = nothing();
                0
            }
        };
        self.taken.extend(piece);
        length
    }
}

pub(super) fn nothing() -> WasiBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

impl Body for Peeked {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(piece) = self.taken.pop_front() {
            return Poll::Ready(Some(piece));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.taken.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.rest.size_hint();
        let taken = self.taken.iter().flatten().filter_map(Frame::data_ref);
        let taken = taken.map(|data| data.len() as u64).sum();
        if self.taken.iter().any(Result::is_err) {
            // Whoever takes it for complete would never ask for the error.
            hint = SizeHint::new();
        }
        // The lower bound may not be above the upper one.
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(taken));
        }
        hint.set_lower(hint.lower().saturating_add(taken));
        hint
    }
}
